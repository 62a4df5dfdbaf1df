#!lua flags=allow-oom
-- Cancels a job, also while Redis is full. ARGV: prefix, id
-- Returns {where, attempt}: "queued" (removed from the queue; the caller saves its end and calls
-- finish), "running" (its host is notified and saves the end) or "gone".
-- A cancelled job stays as "ending" until finish, so that the reaper knows how it ended if the
-- caller fails to save that.
local p, id = ARGV[1], ARGV[2]
local job = p .. "job:" .. id
local facts = redis.call("HMGET", job, "state", "model", "owner", "host", "attempt")
if facts[1] == "queued" then
  redis.call("ZREM", p .. "queue:" .. facts[2], id)
  redis.call("ZREM", p .. "line:" .. facts[2] .. ":" .. facts[3], id)
  redis.call("SREM", p .. "open:" .. facts[3], id)
  redis.call("HDEL", job, "payload")
  redis.call("HSET", job, "state", "ending", "cancel", 1)
  return {"queued", tonumber(facts[5])}
end
if facts[1] == "running" then
  -- The field persists if the hint is lost: the next heartbeat returns "cancel".
  redis.call("HSET", job, "cancel", 1)
  redis.call("PUBLISH", p .. "hint:host:" .. facts[4], "cancel " .. id)
  return {"running", tonumber(facts[5])}
end
return {"gone", tonumber(facts[5] or 0)}
