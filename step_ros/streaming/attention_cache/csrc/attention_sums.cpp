// Sums over attention weights, in passes that read what is large only once.
//
// The Python side (native.py, native_cache.py) compiles this file and owns all memory; it checks
// shapes, nothing here does. Letters: g attention heads of all tasks, t frames of the window by
// their place in the cache, n tokens of a frame, c channels, v orders of the window (forwards,
// reversed).

#include <chrono>

#include "attention_new_frame.h"
#include "attention_window.h"

extern "C" {

// Puts a frame's queries, keys and values in a place; returns the greatest difference of a slot's
// scores within it.
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

// A frame that enters a cache, and the window that is asked about then.
struct NativeUpdate {
  const StepCache* cache;
  int64_t place;
  const float* qkv;
  int64_t part_stride, group_stride, token_stride;
  const int32_t* slots;  // [orders, t]
  int64_t orders;        // none if nothing is asked
  float* attended;       // [orders, g, c]
  float* spreads;        // what step_put returned, of all places: [t]
  int64_t put_threads, attend_threads;
};

// Takes turns in order; returns how many are done, at most up to the first whose frame is put but
// whose window cannot be attended to, for a spread of it is above `most_spread`. Adds the time
// spent on windows to `attend_ns`.
int64_t apply_updates(const NativeUpdate* turns, int64_t count, float most_spread, int64_t* attend_ns) {
  using Clock = std::chrono::steady_clock;
  for (int64_t i = 0; i < count; ++i) {
    const NativeUpdate& turn = turns[i];
    turn.spreads[turn.place] =
        step_put(turn.cache, turn.place, turn.qkv, turn.part_stride, turn.group_stride,
                 turn.token_stride, turn.put_threads);
    if (!turn.orders) continue;
    for (int64_t place = 0; place < turn.cache->frames; ++place)
      if (!(turn.spreads[place] <= most_spread)) return i;
    const auto begun = Clock::now();
    step_attend(turn.cache, turn.slots, turn.orders, turn.place, turn.attended,
                turn.attend_threads);
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
