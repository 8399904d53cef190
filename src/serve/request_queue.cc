#include "serve/request_queue.h"

#include <algorithm>

namespace dunlin::serve {
namespace {

// Levels that are kept though nobody waits in them. A client may name any of priority_levels.
constexpr size_t kKeptLevels = 16;

// Takes out those for which `leaves` is true; it may move them away.
template <class F>
void Extract(std::deque<JobPtr>& jobs, F&& leaves) {
  size_t kept = 0;
  for (JobPtr& job : jobs) {
    if (leaves(job)) continue;
    if (&jobs[kept] != &job) jobs[kept] = std::move(job);
    ++kept;
  }
  jobs.resize(kept);
}

}  // namespace

RequestQueue::RequestQueue(const ModelSpec& spec) : spec_(spec) {}

const QueuePolicy& RequestQueue::PolicyOf(uint64_t priority) const {
  if (!spec_.batching) return spec_.queue;
  const auto it = spec_.batching->policies.find(priority);
  return it == spec_.batching->policies.end() ? spec_.queue : it->second;
}

void RequestQueue::Watch(const Job& job, TimePoint now) {
  next_check_ = std::min({next_check_, job.expires, job.request.deadline});
  if (job.request.cancelled) next_check_ = std::min(next_check_, now + kCancelPoll);
}

bool RequestQueue::Push(JobPtr& job, TimePoint now, size_t extra) {
  uint64_t priority = 0;
  if (spec_.batching && spec_.batching->priority_levels > 0) {
    priority = job->request.priority;
    if (priority == 0 || priority > spec_.batching->priority_levels)
      priority = std::max<uint64_t>(1, spec_.batching->default_priority);
  }
  const QueuePolicy& policy = PolicyOf(priority);
  if (levels_.size() > kKeptLevels)
    std::erase_if(levels_,
                  [](const auto& l) { return l.second.jobs.empty() && l.second.delayed.empty(); });
  Level& level = levels_[priority];
  const size_t waiting = level.jobs.size() + level.delayed.size();
  if (policy.max_size > 0 && waiting >= size_t(policy.max_size) + extra) return false;
  std::chrono::microseconds timeout = policy.default_timeout;
  const std::chrono::microseconds wanted = job->request.timeout;
  if (policy.allow_timeout_override && wanted.count() > 0 &&
      (timeout.count() == 0 || wanted < timeout))
    timeout = wanted;
  job->enqueued = now;
  if (timeout.count() > 0) job->expires = now + timeout;
  Watch(*job, now);
  level.jobs.push_back(std::move(job));
  ++size_;
  return true;
}

std::vector<RequestQueue::Refused> RequestQueue::TakeRefused(TimePoint now) {
  std::vector<Refused> refused;
  if (now < next_check_) return refused;
  next_check_ = TimePoint::max();
  for (auto& [priority, level] : levels_) {
    const bool delay = PolicyOf(priority).timeout_action == TimeoutAction::kDelay;
    std::vector<JobPtr> late;
    // True: it leaves this list.
    const auto leaves = [&](JobPtr& job) {
      std::optional<Refusal> reason;
      if (job->request.IsCancelled())
        reason = Refusal::kCancelled;
      else if (now >= job->request.deadline)
        reason = Refusal::kDeadline;
      else if (now >= job->expires && !delay)
        reason = Refusal::kTimeout;
      if (reason) {
        refused.push_back({std::move(job), *reason});
        --size_;
        return true;
      }
      if (now >= job->expires) {
        job->expires = TimePoint::max();
        Watch(*job, now);
        late.push_back(std::move(job));
        return true;
      }
      Watch(*job, now);
      return false;
    };
    Extract(level.delayed, leaves);
    Extract(level.jobs, leaves);
    for (JobPtr& job : late) level.delayed.push_back(std::move(job));
  }
  return refused;
}

std::vector<JobPtr> RequestQueue::Take(uint64_t shape, size_t count) {
  std::vector<JobPtr> taken;
  taken.reserve(count);
  for (auto& [priority, level] : levels_) {
    for (auto* jobs : {&level.jobs, &level.delayed}) {
      // Mostly they stand at the front, where taking them moves nothing.
      while (taken.size() < count && !jobs->empty() && jobs->front()->shape == shape) {
        taken.push_back(std::move(jobs->front()));
        jobs->pop_front();
      }
      if (taken.size() == count) break;
      Extract(*jobs, [&](JobPtr& job) {
        if (taken.size() == count || job->shape != shape) return false;
        taken.push_back(std::move(job));
        return true;
      });
    }
    if (taken.size() == count) break;
  }
  size_ -= taken.size();
  return taken;
}

}  // namespace dunlin::serve
