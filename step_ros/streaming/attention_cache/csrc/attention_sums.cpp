// SPDX-License-Identifier: Apache-2.0
// Sums over attention weights, in passes that read the large arrays only once.
//
// library.py compiles this file; native.py owns all memory and checks all shapes. Nothing is checked
// here. Letters: g attention heads of all tasks, t frames of the window by their place in the cache,
// n tokens of a frame, c channels, v orders of the window (forwards, reversed).

#include <chrono>

#include "attention_new_frame.h"
#include "attention_window.h"

extern "C" {

// Stores a frame's queries, keys and values at a place. Returns the greatest difference between two
// scores of one slot within the frame.
float step_put(const StepCache* cache, int64_t place, const float* qkv, int64_t part_stride,
               int64_t group_stride, int64_t token_stride, int64_t threads) {
  const NewFrame frame{qkv, part_stride, group_stride, token_stride};
  return cache->half ? put<uint16_t>(*cache, place, frame, threads)
                     : put<float>(*cache, place, frame, threads);
}

// Writes the attended values, summed over the averaged rows, for one or two orders: [v, g, c].
void step_attend(const StepCache* cache, const int32_t* slots, int64_t orders, int64_t newest,
                 float* attended, int64_t threads) {
  if (orders == 1)
    cache->half ? attend<uint16_t, 1>(*cache, slots, newest, attended, threads)
                : attend<float, 1>(*cache, slots, newest, attended, threads);
  else
    cache->half ? attend<uint16_t, 2>(*cache, slots, newest, attended, threads)
                : attend<float, 2>(*cache, slots, newest, attended, threads);
}

// A frame that enters a cache, and the window to predict on afterwards, if any.
struct NativeUpdate {
  const StepCache* cache;
  int64_t place;
  const float* qkv;
  int64_t part_stride, group_stride, token_stride;
  const int32_t* slots;  // [orders, t]
  int64_t orders;        // 0 if there is no window to predict on
  float* attended;       // [orders, g, c]
  float* spreads;        // step_put's result for each place: [t]
  int64_t put_threads, attend_threads;
};

// Applies updates in order and returns how many are complete. It stops early at the first update
// whose window has a spread above `most_spread`: its frame is stored, its window is not computed.
// Adds the time spent on windows to `attend_ns`.
int64_t apply_updates(const NativeUpdate* updates, int64_t count, float most_spread,
                      int64_t* attend_ns) {
  using Clock = std::chrono::steady_clock;
  for (int64_t i = 0; i < count; ++i) {
    const NativeUpdate& update = updates[i];
    update.spreads[update.place] =
        step_put(update.cache, update.place, update.qkv, update.part_stride, update.group_stride,
                 update.token_stride, update.put_threads);
    if (!update.orders) continue;
    for (int64_t place = 0; place < update.cache->frames; ++place)
      if (!(update.spreads[place] <= most_spread)) return i;
    const auto begun = Clock::now();
    step_attend(update.cache, update.slots, update.orders, update.place, update.attended,
                update.attend_threads);
    *attend_ns += std::chrono::nanoseconds(Clock::now() - begun).count();
  }
  return count;
}

// Adds the softmax of each row of scores, times the row's weight, to sums.
void step_softmax_sums(const float* scores, const float* weights, float* sums, int64_t rows,
                       int64_t columns, int64_t threads) {
  threads = std::max<int64_t>(1, std::min(threads, rows / kTogether));
  const int64_t whole = columns / kLanes * kLanes, left = columns - whole;
  const int64_t stride = whole + (left ? kLanes : 0);
  std::vector<std::vector<float>> parts(threads);
  in_parallel(threads, threads, [&](int64_t thread) {
    std::vector<float> exponentials(stride);
    auto& part = parts[thread];
    part.assign(stride, 0.0f);
    const int64_t end = rows * (thread + 1) / threads;
    for (int64_t i = rows * thread / threads; i < end; ++i) {
      const float* row = scores + i * columns;
      const Lanes last = load_some(row + whole, left, -INFINITY);
      Lanes most = last, total = Lanes{};
      for (int64_t j = 0; j < whole; j += kLanes) most = greater(most, load(row + j));
      const float shift = greatest(most);
      for (int64_t j = 0; j < stride; j += kLanes) {
        const Lanes each = exponential((j < whole ? load(row + j) : last) - shift);
        total += each;
        store(each, exponentials.data() + j);
      }
      const float share = weights[i] / sum(total);
      for (int64_t j = 0; j < stride; j += kLanes)
        store(load(part.data() + j) + share * load(exponentials.data() + j), part.data() + j);
    }
  });
  for (const auto& part : parts)
    for (int64_t j = 0; j < columns; ++j) sums[j] += part[j];
}

}  // extern "C"
