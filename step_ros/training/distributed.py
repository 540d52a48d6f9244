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
    """What a process knows of the others.

    Attributes:
        rank: Its number, from 0.
        size: How many there are.
        device: Where it computes.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = CPU

    @property
    def is_main_process(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def part(self, items: Sequence[Item]) -> Sequence[Item]:
        """Return this process's part of a list: items taken in turns."""
        return items[self.rank :: self.size]

    def add_up(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors by their sums over all processes, in one message."""
        if self.size == 1:
            return
        own = list(tensors)
        flat = torch.cat([tensor.reshape(-1) for tensor in own])
        distributed.all_reduce(flat)
        at = 0
        for tensor in own:
            tensor.copy_(flat[at : at + tensor.numel()].view_as(tensor))
            at += tensor.numel()

    def gather(self, value: Item) -> list[Item]:
        """Return the values of all processes, by rank."""
        if self.size == 1:
            return [value]
        values: list[Item] = [value] * self.size
        distributed.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.size > 1:
            distributed.barrier()


ALONE = Distributed()


def init_distributed(device: torch.device) -> Distributed:
    """Meet the other processes, if torchrun started any.

    Args:
        device: Where a process alone would compute; with CUDA each takes a device of its own.
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
    """Part from the others."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
