// SPDX-License-Identifier: Apache-2.0
// A window: the column sums of its attention, from the kept exponentials, and the values weighted by
// these sums.
#pragma once

#include "attention_cache.h"
#include "attention_lanes.h"

namespace {

// Factors of up to kLanes rows, for each order of the window: first exp(b_is + d_rs) with the shift,
// later multiplied by the row's share of the mean.
template <int V>
struct Strip {
  std::vector<float> factors;  // [v, t, rows]
  float sums[V * kLanes];      // [v, rows]
  Lanes cls[V];
};

// Sums of K rows, each over all columns.
template <typename Kept, int V, int K>
inline void sum_rows(const StepCache& m, const Kept* kept, const float* column, Strip<V>& strip,
                     int64_t first) {
  const int64_t T = m.frames, S = m.stride;
  const float* factors = strip.factors.data() + first;
  Lanes total[K * V] = {};
  for (int64_t s = 0; s < T; ++s) {
    const Kept* row = kept + (first * T + s) * S;
    Lanes y[K * V] = {};
    for (int64_t j = 0; j < S; j += kLanes) {
      Lanes c[V];
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) c[v] = load(column + (v * T + s) * S + j);
#pragma GCC unroll 4
      for (int k = 0; k < K; ++k) {
        const Lanes e = load(row + k * T * S + j);
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) y[k * V + v] += e * c[v];
      }
    }
#pragma GCC unroll 4
    for (int k = 0; k < K; ++k)
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v)
        total[k * V + v] += y[k * V + v] * factors[(v * T + s) * kLanes + k];
  }
#pragma GCC unroll 4
  for (int k = 0; k < K; ++k)
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) strip.sums[v * kLanes + first + k] = sum(total[k * V + v]);
}

// Adds K rows, each times its factors, to the column sums.
template <typename Kept, int V, int K>
inline void add_to_columns(const StepCache& m, const Kept* kept, const Strip<V>& strip,
                           int64_t first, float* sums) {
  const int64_t T = m.frames, S = m.stride;
  const float* factors = strip.factors.data() + first;
  for (int64_t s = 0; s < T; ++s) {
    const Kept* row = kept + (first * T + s) * S;
    float* to = sums + s * S;
    for (int64_t j = 0; j < S; j += kLanes) {
      Lanes total[V];
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) total[v] = load(to + v * T * S + j);
#pragma GCC unroll 4
      for (int k = 0; k < K; ++k) {
        const Lanes e = load(row + k * T * S + j);
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) total[v] += e * factors[(v * T + s) * kLanes + k];
      }
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) store(total[v], to + v * T * S + j);
    }
  }
}

// Factors of the rows from `first` on, of the frame at place p, kept in range.
template <int V>
inline void prepare(const StepCache& m, const int32_t* slots, int64_t g, int64_t p, int64_t first,
                    const float* level, Strip<V>& strip) {
  const int64_t T = m.frames, S = m.stride;
  for (int v = 0; v < V; ++v) {
    float* factors = strip.factors.data() + v * T * kLanes;
    Lanes most = all(-INFINITY), at_cls = most;
    if (m.cls_columns != nullptr)
      most = at_cls = load(m.cls_columns + (g * T + p) * S + first) +
                      m.cls_slot_columns[g * T + slots[v * T + p]];
    for (int64_t s = 0; s < T; ++s) {
      const Lanes part = load(m.row_parts + ((g * T + p) * T + slots[v * T + s]) * S + first);
      const Lanes shift = load(m.shifts + ((g * T + p) * T + s) * S + first);
      const Lanes factor = part + shift + level[v * T + s];
      most = greater(most, factor);
      store(factor, factors + s * kLanes);
    }
    for (int64_t s = 0; s < T; ++s)
      store(exponential(load(factors + s * kLanes) - most), factors + s * kLanes);
    strip.cls[v] = exponential(at_cls - most);
  }
}

// Adds the column sums of the rows of the frame at place p to `to`, [v, g, t, stride].
template <typename Kept, int V>
void add_frame(const StepCache& m, const int32_t* slots, int64_t g, int64_t p, float* to,
               double (&cls_sum)[V]) {
  const int64_t T = m.frames, n = m.tokens, S = m.stride, order = T * S;
  std::vector<float> column(V * order), sums(V * order, 0.0f), level(V * T);
  Strip<V> strip;
  strip.factors.resize(V * T * kLanes);

  // exp(c_rj), and the level that all rows of this frame share.
  for (int v = 0; v < V; ++v)
    for (int64_t s = 0; s < T; ++s) {
      const float* part = m.column_parts + ((g * T + slots[v * T + p]) * T + s) * S;
      const float most = greatest(part, S);
      for (int64_t j = 0; j < S; j += kLanes)
        store(exponential(load(part + j) - most), column.data() + v * order + s * S + j);
      level[v * T + s] = most + m.slot_parts[(g * T + slots[v * T + p]) * T + slots[v * T + s]];
    }

  const Kept* frame = static_cast<const Kept*>(m.kept) + (g * T + p) * n * T * S;
  for (int64_t first = 0; first < n; first += kLanes) {
    const int64_t rows = std::min(kLanes, n - first);
    const Kept* kept = frame + first * T * S;
    prepare<V>(m, slots, g, p, first, level.data(), strip);
    std::fill_n(strip.sums, V * kLanes, 1.0f);  // entries without a row divide by one
    int64_t i = 0;
    for (; i + kTogether <= rows; i += kTogether)
      sum_rows<Kept, V, kTogether>(m, kept, column.data(), strip, i);
    for (; i < rows; ++i) sum_rows<Kept, V, 1>(m, kept, column.data(), strip, i);

    for (int v = 0; v < V; ++v) {
      const Lanes weights = load(m.row_weights + first);
      const Lanes share = weights / (load(strip.sums + v * kLanes) + strip.cls[v]);
      cls_sum[v] += sum(weights == 0.0f ? Lanes{} : share * strip.cls[v]);
      float* factors = strip.factors.data() + v * T * kLanes;
      for (int64_t s = 0; s < T; ++s)
        store(load(factors + s * kLanes) * share, factors + s * kLanes);
    }

    // The same rows again, while they are still in the processor's cache.
    for (i = 0; i + kTogether <= rows; i += kTogether)
      add_to_columns<Kept, V, kTogether>(m, kept, strip, i, sums.data());
    for (; i < rows; ++i) add_to_columns<Kept, V, 1>(m, kept, strip, i, sums.data());
  }

  for (int v = 0; v < V; ++v)
    for (int64_t j = 0; j < order; j += kLanes) {
      float* at = to + v * m.groups * order + j;
      store(load(at) + load(sums.data() + v * order + j) * load(column.data() + v * order + j), at);
    }
}

// Adds the row of the global CLS token to a window's column sums.
void add_cls_row(const StepCache& m, const int32_t* slots, int64_t g, float* sums, float& cls_sum) {
  const int64_t T = m.frames, S = m.stride;
  std::vector<float> weights(T * S);
  float most = m.cls_itself[g];
  for (int64_t t = 0; t < T; ++t) {
    const float at_most = greatest(m.cls_keys + (g * T + t) * S, S);
    most = std::max(most, at_most + m.cls_slot_rows[g * T + slots[t]]);
  }
  Lanes total = Lanes{};
  for (int64_t t = 0; t < T; ++t) {
    const float* keys = m.cls_keys + (g * T + t) * S;
    const float level = m.cls_slot_rows[g * T + slots[t]] - most;
    for (int64_t j = 0; j < S; j += kLanes) {
      const Lanes weight = exponential(load(keys + j) + level);
      total += weight;
      store(weight, weights.data() + t * S + j);
    }
  }
  const float itself = exponential(m.cls_itself[g] - most);
  const float share = 1.0f / (sum(total) + itself);
  for (int64_t j = 0; j < T * S; j += kLanes)
    store(load(sums + j) + share * load(weights.data() + j), sums + j);
  cls_sum += share * itself;
}

// Adds up the parts of a group's column sums, and weights its values by them.
void weigh_values(const StepCache& m, const int32_t* slots, int64_t orders, int64_t newest,
                  int64_t g, float* attended) {
  const int64_t T = m.frames, n = m.tokens, C = m.channels, S = m.stride, G = m.groups;
  std::vector<float> sums(orders * T * S, 0.0f);
  for (int64_t v = 0; v < orders; ++v) {
    float* to = sums.data() + v * T * S;
    float* out = attended + (v * G + g) * C;
    float cls_sum = 0.0f;
    for (int64_t part = 0; part < m.parts; ++part) {
      const float* from = m.sums + ((part * orders + v) * G + g) * T * S;
      for (int64_t j = 0; j < T * S; j += kLanes) store(load(to + j) + load(from + j), to + j);
      cls_sum += m.cls_sums[(part * orders + v) * G + g];
    }
    if (m.cls_row) add_cls_row(m, slots + v * T, g, to, cls_sum);
    if (v == 0) std::memcpy(m.newest + g * n, to + newest * S, n * sizeof(float));
    for (int64_t c = 0; c < C; ++c) out[c] = m.cls_v == nullptr ? 0.0f : cls_sum * m.cls_v[g * C + c];
    for (int64_t t = 0; t < T; ++t) {
      Lanes total = Lanes{};
      for (int64_t j = 0; j < S; j += kLanes) total += load(to + t * S + j);
      const float weight = sum(total);
      const float* position = m.position_v + (g * T + slots[v * T + t]) * C;
      for (int64_t c = 0; c < C; ++c) out[c] += weight * position[c];
    }
  }
  for (int64_t t = 0; t < T; ++t)
    for (int64_t j = 0; j < n; ++j) {
      const float* value = m.v + ((g * T + t) * n + j) * C;
      for (int64_t v = 0; v < orders; ++v) {
        const float weight = sums[(v * T + t) * S + j];
        float* out = attended + (v * G + g) * C;
#pragma omp simd
        for (int64_t c = 0; c < C; ++c) out[c] += weight * value[c];
      }
    }
}

template <typename Kept, int V>
void attend(const StepCache& m, const int32_t* slots, int64_t newest, float* attended,
            int64_t threads) {
  const int64_t T = m.frames, order = T * m.stride;
  // Parts are added up in a fixed order, so that the number of threads changes no bit.
  in_parallel(m.groups * m.parts, threads, [&](int64_t item) {
    const int64_t g = item / m.parts, part = item % m.parts;
    float* to = m.sums + (part * V * m.groups + g) * order;
    for (int v = 0; v < V; ++v) std::fill_n(to + v * m.groups * order, order, 0.0f);
    double cls_sum[V] = {};
    for (int64_t p = T * part / m.parts; p < T * (part + 1) / m.parts; ++p)
      add_frame<Kept, V>(m, slots, g, p, to, cls_sum);
    for (int v = 0; v < V; ++v)
      m.cls_sums[(part * V + v) * m.groups + g] = static_cast<float>(cls_sum[v]);
  });
  in_parallel(m.groups, threads,
              [&](int64_t g) { weigh_values(m, slots, V, newest, g, attended); });
}

}  // namespace
