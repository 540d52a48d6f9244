// SPDX-License-Identifier: Apache-2.0
// A new frame is copied to its place, and scored with all slots and, both ways, with all frames.
#pragma once

#include "attention_cache.h"
#include "attention_lanes.h"

namespace {

struct NewFrame {
  const float* qkv;
  int64_t part, group, token;  // strides; channels are contiguous
};

inline float dot(const float* a, const float* b, int64_t n) {
  float total = 0.0f;
#pragma omp simd reduction(+ : total)
  for (int64_t k = 0; k < n; ++k) total += a[k] * b[k];
  return total;
}

// Scores of R rows with J vectors of columns: sums stay in registers.
template <int R, int J>
inline void score_tile(const float* q, const float* k, int64_t channels, int64_t stride,
                       float* scores) {
  Lanes sums[R][J];
  for (int r = 0; r < R; ++r)
    for (int j = 0; j < J; ++j) sums[r][j] = Lanes{};
  for (int64_t c = 0; c < channels; ++c) {
    Lanes column[J];
    for (int j = 0; j < J; ++j) column[j] = load(k + c * stride + j * kLanes);
    for (int r = 0; r < R; ++r)
      for (int j = 0; j < J; ++j) sums[r][j] += q[r * channels + c] * column[j];
  }
  for (int r = 0; r < R; ++r)
    for (int j = 0; j < J; ++j) store(sums[r][j], scores + r * stride + j * kLanes);
}

// Scores of R rows with all columns of a frame; minus infinity beyond the tokens.
template <int R>
inline void score_rows(const StepCache& m, const float* q, const float* k, float* scores) {
  const int64_t C = m.channels, S = m.stride;
  int64_t j = 0;
  for (; j + kWide * kLanes <= S; j += kWide * kLanes)
    score_tile<R, kWide>(q, k + j, C, S, scores + j);
  for (; j < S; j += kLanes) score_tile<R, 1>(q, k + j, C, S, scores + j);
  for (int r = 0; r < R; ++r)
    std::fill(scores + r * S + m.tokens, scores + (r + 1) * S, -INFINITY);
}

// Copies the frame to its place and scores it with all slots; returns the greatest difference of a
// slot's scores within the frame.
float put_group(const StepCache& m, int64_t p, const NewFrame& frame, int64_t g) {
  const int64_t T = m.frames, n = m.tokens, C = m.channels, S = m.stride;
  float* q = m.q + (g * T + p) * n * C;
  float* k = m.k + (g * T + p) * C * S;
  float* v = m.v + (g * T + p) * n * C;
  for (int64_t i = 0; i < n; ++i) {
    const float* from = frame.qkv + g * frame.group + i * frame.token;
    std::memcpy(q + i * C, from, C * sizeof(float));
    std::memcpy(v + i * C, from + 2 * frame.part, C * sizeof(float));
    for (int64_t c = 0; c < C; ++c) k[c * S + i] = from[frame.part + c];
  }
  float spread = 0.0f;
  for (int64_t s = 0; s < T; ++s) {
    float* rows = m.row_parts + ((g * T + p) * T + s) * S;
    for (int64_t i = 0; i < n; ++i) rows[i] = dot(q + i * C, m.position_k + (g * T + s) * C, C);
    float* columns = m.column_parts + ((g * T + s) * T + p) * S;
    score_rows<1>(m, m.position_q + (g * T + s) * C, k, columns);
    float least = columns[0];
#pragma omp simd reduction(min : least)
    for (int64_t j = 0; j < n; ++j) least = std::min(least, columns[j]);
    spread = std::max(spread, greatest(columns, S) - least);
  }
  if (m.cls_columns != nullptr) {
    float* columns = m.cls_columns + (g * T + p) * S;
    for (int64_t i = 0; i < n; ++i) columns[i] = dot(q + i * C, m.cls_k + g * C, C);
    score_rows<1>(m, m.cls_q + g * C, k, m.cls_keys + (g * T + p) * S);
  }
  return spread;
}

template <typename Kept, int R>
inline void keep_rows(const StepCache& m, const float* q, const float* k, float* scores, Kept* kept,
                      float* shifts) {
  const int64_t S = m.stride;
  score_rows<R>(m, q, k, scores);
  for (int r = 0; r < R; ++r) {
    const float most = shifts[r] = greatest(scores + r * S, S);
    for (int64_t j = 0; j < S; j += kLanes)
      store(exponential(load(scores + r * S + j) - most), kept + r * m.frames * S + j);
  }
}

// Keeps the exponentials of a block of scores: rows of frame r, columns of frame s.
template <typename Kept>
void keep_block(const StepCache& m, int64_t g, int64_t r, int64_t s) {
  const int64_t T = m.frames, n = m.tokens, C = m.channels, S = m.stride;
  const float* q = m.q + (g * T + r) * n * C;
  const float* k = m.k + (g * T + s) * C * S;
  Kept* kept = static_cast<Kept*>(m.kept) + ((g * T + r) * n * T + s) * S;
  float* shifts = m.shifts + ((g * T + r) * T + s) * S;
  std::vector<float> scores(kTogether * S);
  int64_t i = 0;
  for (; i + kTogether <= n; i += kTogether)
    keep_rows<Kept, kTogether>(m, q + i * C, k, scores.data(), kept + i * T * S, shifts + i);
  for (; i < n; ++i)
    keep_rows<Kept, 1>(m, q + i * C, k, scores.data(), kept + i * T * S, shifts + i);
}

template <typename Kept>
float put(const StepCache& m, int64_t place, const NewFrame& frame, int64_t threads) {
  std::vector<float> spreads(m.groups);
  in_parallel(m.groups, threads, [&](int64_t g) { spreads[g] = put_group(m, place, frame, g); });
  in_parallel(m.groups * 2 * m.frames, threads, [&](int64_t item) {
    const int64_t g = item / (2 * m.frames), other = item / 2 % m.frames;
    if (item % 2 == 0)
      keep_block<Kept>(m, g, place, other);
    else if (other != place)
      keep_block<Kept>(m, g, other, place);
  });
  return *std::max_element(spreads.begin(), spreads.end());
}

}  // namespace
