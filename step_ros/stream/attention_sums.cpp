// Sums over attention weights, in passes that read what is large only once.
//
// The Python side (native.py) compiles this file, checks nothing and owns all memory; shapes are in
// its docstrings. Letters: g attention heads of all tasks, t frames of the window by their place in
// the cache, n tokens of a frame, v orders of the window (forwards, reversed).

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#ifndef _OPENMP
#include <atomic>
#include <thread>
#endif

namespace {

constexpr int64_t kRows = 16;  // rows of one pass: their exponentials stay in the second-level cache
constexpr int kTogether = 4;   // rows that share one load of a column

constexpr int64_t kLanes = 16;
typedef float Lanes __attribute__((vector_size(kLanes * sizeof(float))));
typedef uint32_t Words __attribute__((vector_size(kLanes * sizeof(uint32_t))));
typedef uint16_t Halves __attribute__((vector_size(kLanes * sizeof(uint16_t))));

inline float load(float value) { return value; }

inline float load(uint16_t value) {  // bfloat16: the upper half of a float32
  const uint32_t bits = static_cast<uint32_t>(value) << 16;
  float result;
  std::memcpy(&result, &bits, sizeof result);
  return result;
}

inline void load(const float* from, Lanes& to) { std::memcpy(&to, from, sizeof to); }

inline void load(const uint16_t* from, Lanes& to) {
  Halves halves;
  std::memcpy(&halves, from, sizeof halves);
  const Words bits = __builtin_convertvector(halves, Words) << 16;
  std::memcpy(&to, &bits, sizeof to);
}

inline float sum(const Lanes& lanes) {
  float total = 0.0f;
  for (int64_t k = 0; k < kLanes; ++k) total += lanes[k];
  return total;
}

inline void store(float value, float* to) { *to = value; }

inline void store(float value, uint16_t* to) {  // round to nearest, ties to even
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  *to = static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// exp(x) for x <= 0 within two units in the last place; 0 below the normal numbers.
inline float exponential(float x) {
  const float clipped = x < -87.0f ? -87.0f : x;
  const float power = std::nearbyintf(clipped * 1.44269504f);
  const float rest = (clipped - power * 0.693359375f) + power * 2.12194440e-4f;
  float sum = 1.98412698e-4f;  // Taylor series: |rest| <= ln(2) / 2
  sum = sum * rest + 1.38888889e-3f;
  sum = sum * rest + 8.33333333e-3f;
  sum = sum * rest + 4.16666667e-2f;
  sum = sum * rest + 1.66666667e-1f;
  sum = sum * rest + 0.5f;
  sum = sum * rest + 1.0f;
  sum = sum * rest + 1.0f;
  const int32_t bits = (static_cast<int32_t>(power) + 127) << 23;
  float scale;
  std::memcpy(&scale, &bits, sizeof scale);
  return x < -87.0f ? 0.0f : sum * scale;
}

// With OpenMP these are torch's own threads, which are awake: a millisecond's work is worth sharing.
template <typename Work>
void in_parallel(int64_t items, int64_t threads, const Work& work) {
#ifdef _OPENMP
#pragma omp parallel for schedule(dynamic) num_threads(static_cast<int>(threads)) if (threads > 1)
  for (int64_t item = 0; item < items; ++item) work(item);
#else
  std::atomic<int64_t> next{0};
  const auto run = [&] {
    for (int64_t item; (item = next.fetch_add(1)) < items;) work(item);
  };
  std::vector<std::thread> others;
  for (int64_t k = 1; k < std::min(threads, items); ++k) others.emplace_back(run);
  run();
  for (auto& other : others) other.join();
#endif
}

// ---- exponentials of new blocks of scores

template <typename Kept>
void keep_row(const float* scores, Kept* kept, float* shift, int64_t n) {
  float most = scores[0];
#pragma omp simd reduction(max : most)
  for (int64_t j = 0; j < n; ++j) most = std::max(most, scores[j]);
  *shift = most;
#pragma omp simd
  for (int64_t j = 0; j < n; ++j) store(exponential(scores[j] - most), kept + j);
}

struct Strides {
  int64_t group, block, row;
};

template <typename Kept>
void keep(const float* scores, const Strides& from, Kept* kept, const Strides& to, float* shifts,
          const Strides& beside, int64_t groups, int64_t blocks, int64_t n, int64_t threads) {
  in_parallel(groups * blocks, threads, [&](int64_t item) {
    const int64_t g = item / blocks, s = item % blocks;
    for (int64_t i = 0; i < n; ++i)
      keep_row(scores + g * from.group + s * from.block + i * from.row,
               kept + g * to.group + s * to.block + i * to.row,
               shifts + g * beside.group + s * beside.block + i * beside.row, n);
  });
}

// ---- column sums of a window from its kept exponentials

struct Window {
  const float *shifts, *row_parts, *column_parts, *slot_parts, *cls_columns, *cls_slots, *rows;
  const int32_t* slots;
  float *sums, *cls_sums;
  int64_t groups, frames, tokens;
};

// z[k][v] += factor[k][v][s] * (row k of the block) . column[v], for K rows that share the loads.
template <typename Kept, int V, int K>
inline void add_to_row_sums(const Kept* block, const float* column, int64_t column_order,
                            const float* factor, int64_t frames, int64_t n, Lanes (&z)[K][V]) {
  Lanes y[K][V] = {};
  int64_t j = 0;
  for (; j + kLanes <= n; j += kLanes) {
    Lanes c[V], e;
    for (int v = 0; v < V; ++v) load(column + v * column_order + j, c[v]);
    for (int k = 0; k < K; ++k) {
      load(block + k * n + j, e);
      for (int v = 0; v < V; ++v) y[k][v] += e * c[v];
    }
  }
  for (; j < n; ++j)
    for (int k = 0; k < K; ++k)
      for (int v = 0; v < V; ++v) y[k][v][0] += load(block[k * n + j]) * column[v * column_order + j];
  for (int k = 0; k < K; ++k)
    for (int v = 0; v < V; ++v) z[k][v] += y[k][v] * factor[(k * V + v) * frames];
}

// sums[v] += sum over K rows of factor[k][v][s] * (row k of the block).
template <typename Kept, int V, int K>
inline void add_to_columns(const Kept* block, const float* factor, int64_t frames, int64_t n,
                           float* sums, int64_t sums_order) {
  float h[K][V];
  for (int k = 0; k < K; ++k)
    for (int v = 0; v < V; ++v) h[k][v] = factor[(k * V + v) * frames];
  int64_t j = 0;
  for (; j + kLanes <= n; j += kLanes) {
    Lanes total[V], e;
    for (int v = 0; v < V; ++v) load(sums + v * sums_order + j, total[v]);
    for (int k = 0; k < K; ++k) {
      load(block + k * n + j, e);
      for (int v = 0; v < V; ++v) total[v] += e * h[k][v];
    }
    for (int v = 0; v < V; ++v) std::memcpy(sums + v * sums_order + j, &total[v], sizeof total[v]);
  }
  for (; j < n; ++j)
    for (int k = 0; k < K; ++k)
      for (int v = 0; v < V; ++v) sums[v * sums_order + j] += load(block[k * n + j]) * h[k][v];
}

// Turns the factors of K rows from exp(b_is + d_rs) into what their columns count: Z_i is divided by.
template <typename Kept, int V, int K>
inline void share_rows(const Kept* kept, const float* column, const float* row_weights,
                       const float* cls, float* factor, int64_t frames, int64_t n,
                       double (&cls_sum)[V]) {
  Lanes z[K][V] = {};
  for (int64_t s = 0; s < frames; ++s)
    add_to_row_sums<Kept, V, K>(kept + s * n * n, column + s * n, frames * n, factor + s, frames, n,
                                z);
  for (int k = 0; k < K; ++k)
    for (int v = 0; v < V; ++v) {
      const float share = row_weights[k] / (sum(z[k][v]) + cls[k * V + v]);
      cls_sum[v] += share * cls[k * V + v];
      for (int64_t s = 0; s < frames; ++s) factor[(k * V + v) * frames + s] *= share;
    }
}

template <typename Kept, int V>
void sum_columns_of_frame(const Window& w, const Kept* kept, int64_t item) {
  const int64_t T = w.frames, n = w.tokens, g = item / T, p = item % T;
  std::vector<float> column(V * T * n), sums(V * T * n, 0.0f), level(V * T);
  std::vector<float> factor(kRows * V * T), cls(kRows * V);
  double cls_sum[V] = {};

  // exp(c_rj), and what all rows of this frame have in common.
  for (int v = 0; v < V; ++v) {
    const int64_t slot = w.slots[v * T + p];
    for (int64_t s = 0; s < T; ++s) {
      const float* part = w.column_parts + ((g * T + slot) * T + s) * n;
      float* to = column.data() + (v * T + s) * n;
      float most = part[0];
#pragma omp simd reduction(max : most)
      for (int64_t j = 0; j < n; ++j) most = std::max(most, part[j]);
#pragma omp simd
      for (int64_t j = 0; j < n; ++j) to[j] = exponential(part[j] - most);
      level[v * T + s] = most + w.slot_parts[(g * T + slot) * T + w.slots[v * T + s]];
    }
  }

  for (int64_t first = 0; first < n; first += kRows) {
    const int64_t rows = std::min(kRows, n - first);
    for (int64_t i = 0; i < rows; ++i)
      for (int v = 0; v < V; ++v) {
        const float* part = w.row_parts + ((g * T + p) * n + first + i) * T;
        float* f = factor.data() + (i * V + v) * T;
        float most = -INFINITY, at_cls = -INFINITY;
        if (w.cls_columns != nullptr)
          most = at_cls = w.cls_columns[(g * T + p) * n + first + i] +
                          w.cls_slots[g * T + w.slots[v * T + p]];
        for (int64_t s = 0; s < T; ++s) {
          f[s] = level[v * T + s] + part[w.slots[v * T + s]] +
                 w.shifts[((g * T + p) * T + s) * n + first + i];
          most = std::max(most, f[s]);
        }
#pragma omp simd
        for (int64_t s = 0; s < T; ++s) f[s] = exponential(f[s] - most);
        cls[i * V + v] = w.cls_columns == nullptr ? 0.0f : exponential(at_cls - most);
      }

    const Kept* strip = kept + ((g * T + p) * T * n + first) * n;
    int64_t i = 0;
    for (; i + kTogether <= rows; i += kTogether)
      share_rows<Kept, V, kTogether>(strip + i * n, column.data(), w.rows + first + i,
                                     cls.data() + i * V, factor.data() + i * V * T, T, n, cls_sum);
    for (; i < rows; ++i)
      share_rows<Kept, V, 1>(strip + i * n, column.data(), w.rows + first + i, cls.data() + i * V,
                             factor.data() + i * V * T, T, n, cls_sum);

    // The same rows again, which are still near.
    for (int64_t s = 0; s < T; ++s) {
      const Kept* block = strip + s * n * n;
      float* to = sums.data() + s * n;
      for (i = 0; i + kTogether <= rows; i += kTogether)
        add_to_columns<Kept, V, kTogether>(block + i * n, factor.data() + i * V * T + s, T, n, to,
                                           T * n);
      for (; i < rows; ++i)
        add_to_columns<Kept, V, 1>(block + i * n, factor.data() + i * V * T + s, T, n, to, T * n);
    }
  }

  // One result for each frame of rows: added up in the same order whatever the threads do.
  for (int v = 0; v < V; ++v) {
    float* to = w.sums + ((p * V + v) * w.groups + g) * T * n;
#pragma omp simd
    for (int64_t j = 0; j < T * n; ++j) to[j] = sums[v * T * n + j] * column[v * T * n + j];
    w.cls_sums[(p * V + v) * w.groups + g] = static_cast<float>(cls_sum[v]);
  }
}

template <typename Kept>
void sum_columns(const Window& w, const Kept* kept, int64_t orders, int64_t threads) {
  in_parallel(w.groups * w.frames, threads, [&](int64_t item) {
    if (orders == 1)
      sum_columns_of_frame<Kept, 1>(w, kept, item);
    else
      sum_columns_of_frame<Kept, 2>(w, kept, item);
  });
}

}  // namespace

extern "C" {

void step_keep(int32_t half, const float* scores, const int64_t* score_strides, void* kept,
               const int64_t* kept_strides, float* shifts, const int64_t* shift_strides,
               int64_t groups, int64_t blocks, int64_t n, int64_t threads) {
  const auto strides = [](const int64_t* three) { return Strides{three[0], three[1], three[2]}; };
  const Strides from = strides(score_strides), to = strides(kept_strides);
  const Strides beside = strides(shift_strides);
  if (half)
    keep(scores, from, static_cast<uint16_t*>(kept), to, shifts, beside, groups, blocks, n, threads);
  else
    keep(scores, from, static_cast<float*>(kept), to, shifts, beside, groups, blocks, n, threads);
}

void step_sum_columns(int32_t half, const void* kept, const float* shifts, const float* row_parts,
                      const float* column_parts, const float* slot_parts, const float* cls_columns,
                      const float* cls_slots, const float* rows, const int32_t* slots, float* sums,
                      float* cls_sums, int64_t groups, int64_t frames, int64_t tokens,
                      int64_t orders, int64_t threads) {
  const Window w{shifts, row_parts, column_parts, slot_parts, cls_columns, cls_slots, rows,
                 slots,  sums,      cls_sums,     groups,     frames,      tokens};
  if (half)
    sum_columns(w, static_cast<const uint16_t*>(kept), orders, threads);
  else
    sum_columns(w, static_cast<const float*>(kept), orders, threads);
}

// Adds the softmax of each row of scores, times the row's weight, to sums. Scores are overwritten.
void step_softmax_sums(float* scores, const float* weights, float* sums, int64_t rows,
                       int64_t columns, int64_t threads) {
  threads = std::max<int64_t>(1, std::min(threads, rows / kTogether));
  std::vector<std::vector<float>> parts(threads);
  in_parallel(threads, threads, [&](int64_t thread) {
    auto& part = parts[thread];
    part.assign(columns, 0.0f);
    const int64_t end = rows * (thread + 1) / threads;
    for (int64_t i = rows * thread / threads; i < end; ++i) {
      float* row = scores + i * columns;
      float most = row[0], sum = 0.0f;
#pragma omp simd reduction(max : most)
      for (int64_t j = 0; j < columns; ++j) most = std::max(most, row[j]);
#pragma omp simd reduction(+ : sum)
      for (int64_t j = 0; j < columns; ++j) sum += row[j] = exponential(row[j] - most);
      const float share = weights[i] / sum;
#pragma omp simd
      for (int64_t j = 0; j < columns; ++j) part[j] += share * row[j];
    }
  });
  for (const auto& part : parts)
    for (int64_t j = 0; j < columns; ++j) sums[j] += part[j];
}

}  // extern "C"
