# SPDX-License-Identifier: Apache-2.0
"""The processes that train together: this one alone, or those that torchrun started."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, distributed

Item = TypeVar('Item')
CPU = torch.device('cpu')


@dataclass(frozen=True, kw_only=True)
class Distributed:
    """This process's place among the processes that share a job.

    Attributes:
        rank: Number of this process, from 0.
        size: Number of processes.
        device: Device that this process computes on.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = CPU

    @property
    def is_main_process(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def part(self, items: Sequence[Item]) -> Sequence[Item]:
        """Return this process's share of a list: every `size`-th item, from `rank` on."""
        return items[self.rank :: self.size]

    def all_reduce(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors by their sums over all processes, in one message."""
        if self.size == 1:
            return
        own = list(tensors)
        flat = torch.cat([tensor.reshape(-1) for tensor in own])
        distributed.all_reduce(flat)
        start = 0
        for tensor in own:
            tensor.copy_(flat[start : start + tensor.numel()].view_as(tensor))
            start += tensor.numel()

    def gather(self, value: Item) -> list[Item]:
        """Return the values of all processes, by rank."""
        if self.size == 1:
            return [value]
        values: list[Item] = [value] * self.size
        distributed.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        """Wait until all processes have reached this call."""
        if self.size > 1:
            distributed.barrier()


ALONE = Distributed()


def init_distributed(device: torch.device) -> Distributed:
    """Return this process's place, after joining the processes that torchrun started, if any.

    Args:
        device: Device of a single process. On CUDA, each process takes its own device.
    """
    size = int(os.environ.get('WORLD_SIZE', '1'))
    if size == 1:
        return Distributed(device=device)
    if device.type == 'cuda':
        device = torch.device('cuda', int(os.environ['LOCAL_RANK']))
        torch.cuda.set_device(device)
    if not distributed.is_initialized():
        distributed.init_process_group('nccl' if device.type == 'cuda' else 'gloo')
    return Distributed(rank=distributed.get_rank(), size=size, device=device)


def close_distributed() -> None:
    """Leave the group of processes, if this process has joined one."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
