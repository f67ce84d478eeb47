#include "team.h"

namespace kernels {

namespace {

// About 20 microseconds, the longest task of a short text.
constexpr int kAwake = 500;

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

void waitFor(const std::atomic<int>& value, int atLeast) {
  for (int tries = 0; value.load(std::memory_order_acquire) < atLeast; tries++) {
    if (tries < kAwake)
      pause();
    else
      std::this_thread::yield();
  }
}

Team::Team(int threads) {
  for (int i = 1; i < threads; i++) helpers_.emplace_back([this, i] { help(i); });
}

Team::~Team() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  for (std::thread& helper : helpers_) helper.join();
}

void Team::run(const std::function<void(int)>& work) {
  if (helpers_.empty()) return work(0);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    work_ = &work;
    run_++;
  }
  wake_.notify_all();
  work(0);
  {
    // Who comes now is too late.
    std::lock_guard<std::mutex> lock(mutex_);
    work_ = nullptr;
  }
  while (inside_.load(std::memory_order_acquire) > 0) std::this_thread::yield();
}

void Team::help(int number) {
  unsigned long seen = 0;
  for (;;) {
    const std::function<void(int)>* work;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      wake_.wait(lock, [&] { return stop_ || (work_ && run_ != seen); });
      if (stop_) return;
      seen = run_;
      work = work_;
      inside_.fetch_add(1, std::memory_order_relaxed);
    }
    (*work)(number);
    inside_.fetch_sub(1, std::memory_order_release);
  }
}

}  // namespace kernels
