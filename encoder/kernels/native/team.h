#pragma once
// Threads that compute one batch together.
#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace kernels {

// A part of a batch that every thread waits for the end of: tasks that each take as they come.
struct Phase {
  alignas(64) std::atomic<int> next{0};
  alignas(64) std::atomic<int> done{0};
};

class Team {
 public:
  // @param threads with the one that calls
  explicit Team(int threads);
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  int threads() const { return int(helpers_.size()) + 1; }

  // Calls `work` with the number of the thread, in the calling one (0) and in those others that are awake in time.
  // Returns when all that began have ended.
  void run(const std::function<void(int)>& work);

 private:
  void help(int number);

  std::vector<std::thread> helpers_;
  std::mutex mutex_;
  std::condition_variable wake_;
  const std::function<void(int)>* work_ = nullptr;
  unsigned long run_ = 0;
  bool stop_ = false;
  std::atomic<int> inside_{0};
};

// Waits a moment for another thread: awake at first, as it is about to end; then lets others have the core, of which it
// may be one.
void waitFor(const std::atomic<int>& value, int atLeast);

// The threads of a team that share a batch's phases: each calls the same ones in the same order.
class Together {
 public:
  Together(Phase* phases, int threads) : phases_(phases), threads_(threads) {}

  // Takes several tasks at a time, fewer towards the end: cores that are far from each other take long to agree on each.
  template <class F>
  void phase(int tasks, F&& task) {
    Phase& phase = *phases_++;
    int first = phase.next.load(std::memory_order_relaxed);
    while (first < tasks) {
      const int share = (tasks - first) / (2 * threads_);
      const int end = first + (share > 1 ? share : 1);
      if (!phase.next.compare_exchange_weak(first, end, std::memory_order_relaxed)) continue;
      for (int i = first; i < end; i++) task(i);
      phase.done.fetch_add(end - first, std::memory_order_release);
      first = phase.next.load(std::memory_order_relaxed);
    }
    waitFor(phase.done, tasks);
  }

 private:
  Phase* phases_;
  int threads_;
};

// A thread that has the batch for itself.
class Alone {
 public:
  template <class F>
  void phase(int tasks, F&& task) {
    for (int i = 0; i < tasks; i++) task(i);
  }
};

}  // namespace kernels
