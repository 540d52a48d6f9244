// SPDX-License-Identifier: Apache-2.0
// The cache of one camera. native.py declares the same structure and owns all memory.
#pragma once

#include <cstdint>

extern "C" {

// The projections and exponentials of one camera's frames.
//
// A row of tokens has `stride` entries, a multiple of 16 and so of every kLanes: loops need no
// remainder. The entries beyond the tokens add nothing to any sum: they are zero in `k` and `kept`,
// and minus infinity in `column_parts` and `cls_keys`.
struct StepCache {
  int64_t groups, frames, tokens, channels, stride;
  int64_t half;     // whether `kept` is bfloat16, else float32
  int64_t cls_row;  // whether the mean includes the row of the global CLS token
  int64_t parts;    // into how many parts the frames of a group are split, for threads
  // Of each frame, at its place. A frame keeps its place while it slides from slot to slot.
  float *q, *k, *v;     // [g, t, n, c], [g, t, c, stride], [g, t, n, c]
  void* kept;           // [g, t, n, t, stride]: each row of a frame with all frames' columns
  float* shifts;        // [g, t, t, stride]
  float* row_parts;     // q_i k(s): [g, t, slots, stride]
  float* column_parts;  // q(r) k_j: [g, slots, t, stride]
  float* cls_columns;   // q_i k_cls: [g, t, stride]; null without a global CLS token
  float* cls_keys;      // q_cls k_j: [g, t, stride]; null without a global CLS token
  // Of the last window.
  float* newest;    // attention that each token of the newest frame gets: [g, n]
  float* sums;      // [parts, 2, g, t, stride]
  float* cls_sums;  // [parts, 2, g]
  // Constants.
  const float *position_q, *position_k, *position_v;  // [g, slots, c]
  const float* slot_parts;                            // q(r) k(s): [g, slots, slots]
  const float *cls_q, *cls_k, *cls_v;                 // [g, c]; null without
  const float *cls_slot_columns, *cls_slot_rows;      // q(r) k_cls, q_cls k(s): [g, slots]
  const float* cls_itself;                            // q_cls k_cls: [g]
  const float* row_weights;                           // weight of each row of a frame in the mean: [stride]
};

}  // extern "C"
