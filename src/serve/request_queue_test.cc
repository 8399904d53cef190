#include "serve/request_queue.h"

#include <gtest/gtest.h>

namespace dunlin::serve {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

constexpr TimePoint kNow = TimePoint(std::chrono::hours(1));

class RequestQueueTest : public testing::Test {
 protected:
  bool Push(RequestQueue& queue, std::string id, uint64_t shape = 0, uint64_t priority = 0,
            microseconds timeout = {}, TimePoint now = kNow) {
    auto job = std::make_unique<Job>();
    job->request.id = std::move(id);
    job->request.priority = priority;
    job->request.timeout = timeout;
    job->shape = shape;
    return queue.Push(job, now, 0);
  }
  static std::string Ids(const std::vector<JobPtr>& jobs) {
    std::string ids;
    for (const JobPtr& job : jobs) ids += job->request.id;
    return ids;
  }
  static std::string Refused(RequestQueue& queue, TimePoint now) {
    std::string ids;
    for (const auto& r : queue.TakeRefused(now)) ids += r.job->request.id;
    return ids;
  }
  ModelSpec spec_;
};

TEST_F(RequestQueueTest, TakesRequestsOfOneShapeInOrder) {
  RequestQueue queue(spec_);
  for (const auto& [id, shape] : std::vector<std::pair<std::string, uint64_t>>{
           {"a", 1}, {"b", 2}, {"c", 1}, {"d", 1}, {"e", 2}})
    EXPECT_TRUE(Push(queue, id, shape));
  EXPECT_EQ(Ids(queue.Take(1, 2)), "ac");
  EXPECT_EQ(Ids(queue.Take(2, 9)), "be");
  EXPECT_EQ(queue.size(), 1u);
  EXPECT_EQ(Ids(queue.Take(1, 9)), "d");
  EXPECT_TRUE(queue.empty());
}

TEST_F(RequestQueueTest, TheSmallerOfDefaultAndWantedTimeoutCounts) {
  spec_.queue.default_timeout = milliseconds(10);
  RequestQueue queue(spec_);
  Push(queue, "a", 0, 0, milliseconds(20));
  Push(queue, "b", 0, 0, milliseconds(5));
  Push(queue, "c");
  EXPECT_EQ(Refused(queue, kNow + milliseconds(4)), "");
  EXPECT_EQ(queue.next_check(), kNow + milliseconds(5));
  EXPECT_EQ(Refused(queue, kNow + milliseconds(5)), "b");
  EXPECT_EQ(queue.next_check(), kNow + milliseconds(10));
  EXPECT_EQ(Refused(queue, kNow + milliseconds(10)), "ac");
  EXPECT_EQ(queue.next_check(), TimePoint::max());
}

TEST_F(RequestQueueTest, WithoutADefaultTheWantedTimeoutCounts) {
  RequestQueue queue(spec_);
  Push(queue, "a", 0, 0, milliseconds(20));
  Push(queue, "b");
  EXPECT_EQ(Refused(queue, kNow + milliseconds(20)), "a");
  EXPECT_EQ(Refused(queue, kNow + std::chrono::hours(24)), "");
}

TEST_F(RequestQueueTest, DelayedOnesStayBehindTheirPriority) {
  spec_.batching.emplace();
  spec_.batching->priority_levels = 2;
  spec_.batching->default_priority = 1;
  spec_.queue.timeout_action = TimeoutAction::kDelay;
  RequestQueue queue(spec_);
  Push(queue, "a", 0, 1, milliseconds(1));
  Push(queue, "b", 0, 1);
  Push(queue, "c", 0, 2);
  EXPECT_EQ(Refused(queue, kNow + milliseconds(2)), "");
  EXPECT_EQ(Ids(queue.Take(0, 9)), "bac");
}

TEST_F(RequestQueueTest, DelayedOnesCountForTheBound) {
  spec_.queue.timeout_action = TimeoutAction::kDelay;
  spec_.queue.max_size = 2;
  RequestQueue queue(spec_);
  EXPECT_TRUE(Push(queue, "a", 0, 0, milliseconds(1)));
  EXPECT_EQ(Refused(queue, kNow + milliseconds(2)), "");
  EXPECT_TRUE(Push(queue, "b"));
  EXPECT_FALSE(Push(queue, "c"));
}

TEST_F(RequestQueueTest, ManyPrioritiesLeaveNothingBehind) {
  spec_.batching.emplace();
  spec_.batching->priority_levels = UINT64_MAX;
  spec_.batching->default_priority = 1;
  RequestQueue queue(spec_);
  for (uint64_t p = 1; p < 5000; ++p) {
    EXPECT_TRUE(Push(queue, "x", 0, p));
    EXPECT_EQ(queue.Take(0, 1).size(), 1u);
  }
  EXPECT_TRUE(Push(queue, "x", 0, UINT64_MAX));
  EXPECT_TRUE(Push(queue, "y", 0, 1));
  EXPECT_EQ(Ids(queue.Take(0, 2)), "yx");
}

}  // namespace
}  // namespace dunlin::serve
