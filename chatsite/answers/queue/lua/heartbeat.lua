#!lua flags=allow-oom
-- Extends a host's leases, also while Redis is full.
-- ARGV: prefix, host, lease_ms, then id and attempt of each job
-- Returns for each: "ok", "cancel" (its cancellation was requested) or "lost" (this host no longer
-- holds it).
local p, host = ARGV[1], ARGV[2]
local now = redis.call("TIME")
local expiry = now[1] * 1000 + math.floor(now[2] / 1000) + ARGV[3]
local answers = {}
for i = 4, #ARGV, 2 do
  local job = redis.call("HMGET", p .. "job:" .. ARGV[i], "state", "host", "attempt", "cancel")
  if job[1] == "running" and job[2] == host and job[3] == ARGV[i + 1] then
    redis.call("ZADD", p .. "leases", expiry, ARGV[i])
    answers[#answers + 1] = job[4] and "cancel" or "ok"
  else
    answers[#answers + 1] = "lost"
  end
end
return answers
