// What the compiled passes work on; native_cache.py has the same structure, and owns all memory.
#pragma once

#include <cstdint>

extern "C" {

// What is kept of one camera's frames. `stride` is the length of a row of tokens, a multiple of
// kLanes. What lies beyond the tokens counts for nothing: zero in `k` and `kept`, minus infinity in
// `column_parts` and `cls_keys`.
struct StepCache {
  int64_t groups, frames, tokens, channels, stride;
  int64_t half;     // whether `kept` is bfloat16, else float32
  int64_t cls_row;  // whether the row of the global CLS token counts
  int64_t parts;    // in how many parts a group's frames are summed
  // Of frames, by their places.
  float *q, *k, *v;     // [g, t, n, c], [g, t, c, stride], [g, t, n, c]
  void* kept;           // [g, t, n, t, stride]: each row of a frame with all frames' columns
  float* shifts;        // [g, t, t, stride]
  float* row_parts;     // q_i k(s): [g, t, slots, stride]
  float* column_parts;  // q(r) k_j: [g, slots, t, stride]
  float* cls_columns;   // q_i k_cls: [g, t, stride]; null without a global CLS token
  float* cls_keys;      // q_cls k_j: likewise
  // Of the last answer.
  float* newest;    // how much the newest frame is attended to: [g, n]
  float* sums;      // [parts, 2, g, t, stride]
  float* cls_sums;  // [parts, 2, g]
  // Constants.
  const float *position_q, *position_k, *position_v;  // [g, slots, c]
  const float* slot_parts;                            // q(r) k(s): [g, slots, slots]
  const float *cls_q, *cls_k, *cls_v;                 // [g, c]; null without
  const float *cls_slot_columns, *cls_slot_rows;      // q(r) k_cls, q_cls k(s): [g, slots]
  const float* cls_itself;                            // q_cls k_cls: [g]
  const float* row_weights;                           // what rows of a frame count: [stride]
};

}  // extern "C"
