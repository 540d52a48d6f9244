// SPDX-License-Identifier: Apache-2.0
// Some numbers at once, as many as fit one vector of the processor, and work shared by threads.
#pragma once

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

// GCC splits longer vectors than the processor has through memory, which costs a factor of four.
#if defined(__AVX512F__)
constexpr int64_t kLanes = 16;
constexpr int kWide = 4;  // vectors of scores that fit the registers, for each of kTogether rows
#elif defined(__AVX__)
constexpr int64_t kLanes = 8;
constexpr int kWide = 2;
#else
constexpr int64_t kLanes = 4;
constexpr int kWide = 2;
#endif
constexpr int kTogether = 4;  // rows that share one load of a column
typedef float Lanes __attribute__((vector_size(kLanes * sizeof(float))));
typedef int32_t Whole __attribute__((vector_size(kLanes * sizeof(int32_t))));
typedef uint32_t Words __attribute__((vector_size(kLanes * sizeof(uint32_t))));
typedef uint16_t Halves __attribute__((vector_size(kLanes * sizeof(uint16_t))));

inline Lanes load(const float* from) {
  Lanes to;
  std::memcpy(&to, from, sizeof to);
  return to;
}

inline Lanes load(const uint16_t* from) {  // bfloat16: the upper half of a float32
  Halves halves;
  std::memcpy(&halves, from, sizeof halves);
  const Words bits = __builtin_convertvector(halves, Words) << 16;
  Lanes to;
  std::memcpy(&to, &bits, sizeof to);
  return to;
}

// The first `count`, then `rest`.
inline Lanes load_some(const float* from, int64_t count, float rest) {
  float all[kLanes];
  std::fill_n(all, kLanes, rest);
  std::copy_n(from, count, all);
  return load(all);
}

inline void store(Lanes lanes, float* to) { std::memcpy(to, &lanes, sizeof lanes); }

inline void store(Lanes lanes, uint16_t* to) {  // round to nearest, ties to even
  Words bits;
  std::memcpy(&bits, &lanes, sizeof bits);
  const Words rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const Halves halves = __builtin_convertvector(rounded, Halves);
  std::memcpy(to, &halves, sizeof halves);
}

inline Lanes all(float value) { return Lanes{} + value; }

inline Lanes greater(Lanes a, Lanes b) { return a > b ? a : b; }

// Joins halves: in a chain each step would wait for the one before.
template <typename Join>
inline float reduce(Lanes lanes, const Join& join) {
  float each[kLanes];
  store(lanes, each);
  for (int64_t half = kLanes / 2; half > 0; half /= 2)
    for (int64_t k = 0; k < half; ++k) each[k] = join(each[k], each[k + half]);
  return each[0];
}

inline float sum(Lanes lanes) {
  return reduce(lanes, [](float a, float b) { return a + b; });
}

inline float greatest(Lanes lanes) {
  return reduce(lanes, [](float a, float b) { return a > b ? a : b; });
}

// Of a row whose length is a multiple of kLanes.
inline float greatest(const float* row, int64_t length) {
  Lanes most = load(row);
  for (int64_t j = kLanes; j < length; j += kLanes) most = greater(most, load(row + j));
  return greatest(most);
}

// exp(x) for x <= 0 within three units in the last place; 0 below the normal numbers.
inline Lanes exponential(Lanes x) {
  const Lanes clipped = x < -87.0f ? all(-87.0f) : x;
  const float magic = 12582912.0f;  // leaves no place for a fraction
  const Lanes power = (clipped * 1.44269504f + magic) - magic;
  const Lanes rest = (clipped - power * 0.693359375f) + power * 2.12194440e-4f;
  Lanes sum = rest * 1.38888889e-3f + 8.33333333e-3f;  // Taylor series: |rest| <= ln(2) / 2
  sum = sum * rest + 4.16666667e-2f;
  sum = sum * rest + 1.66666667e-1f;
  sum = sum * rest + 0.5f;
  sum = sum * rest + 1.0f;
  sum = sum * rest + 1.0f;
  const Whole bits = (__builtin_convertvector(power, Whole) + 127) << 23;
  Lanes scale;
  std::memcpy(&scale, &bits, sizeof scale);
  return x < -87.0f ? Lanes{} : sum * scale;
}

inline float exponential(float x) { return exponential(all(x))[0]; }

// With OpenMP these are torch's own threads, which are awake already: even a millisecond of work is
// worth sharing.
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

}  // namespace
