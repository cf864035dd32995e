#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace support {

/// An executor of the caller's own on std::thread, which sanitizers understand: its threads take the tasks in no order.
class thread_pool {
 public:
  explicit thread_pool(int count) {
    for (int worker = 0; worker < count; ++worker) threads_.emplace_back([this, worker] { work(worker); });
  }
  thread_pool(const thread_pool&) = delete;
  thread_pool& operator=(const thread_pool&) = delete;
  ~thread_pool() {
    {
      const std::lock_guard lock(mutex_);
      ends_ = true;
    }
    begin_.notify_all();
    for (std::thread& t : threads_) t.join();
  }

  template <class F>
  void operator()(int tasks, const F& f) noexcept {
    std::unique_lock lock(mutex_);
    task_ = [&f](int task, int worker) { f(task, worker); };
    left_ = open_ = tasks;
    begin_.notify_all();
    done_.wait(lock, [this] { return open_ == 0; });
  }
  int workers() const noexcept { return static_cast<int>(threads_.size()); }

 private:
  void work(int worker) {
    std::unique_lock lock(mutex_);
    for (;;) {
      begin_.wait(lock, [this] { return ends_ || left_ > 0; });
      if (ends_) return;
      const int task = --left_;
      lock.unlock();
      task_(task, worker);
      lock.lock();
      if (--open_ == 0) done_.notify_one();
    }
  }

  std::mutex mutex_;
  std::condition_variable begin_, done_;
  std::function<void(int, int)> task_;
  int left_ = 0;  ///< tasks that nobody has taken
  int open_ = 0;  ///< tasks that are not done
  bool ends_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace support
