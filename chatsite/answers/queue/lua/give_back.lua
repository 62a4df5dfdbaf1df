-- Ends leases and requeues their jobs at the head of the queue.
-- ARGV: prefix, mode, fault (0 or 1), faults_max, then by mode
--   "jobs":    host, then id and attempt of each job: those that the host still holds
--   "host":    host: all jobs that it holds, of any attempt (it has been restarted)
--   "expired": no further arguments: all jobs whose lease has expired
-- Returns: {requeued ids, exhausted ids}. An exhausted job is not retried: it stays in state
-- "ending", without a host, until the caller has saved its end and called finish.
local p, mode, fault, most = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local leases = p .. "leases"
local ids = {}
if mode == "jobs" then
  for i = 6, #ARGV, 2 do
    local job = redis.call("HMGET", p .. "job:" .. ARGV[i], "host", "attempt")
    if job[1] == ARGV[5] and job[2] == ARGV[i + 1] then ids[#ids + 1] = ARGV[i] end
  end
elseif mode == "host" then
  for _, id in ipairs(redis.call("ZRANGE", leases, 0, -1)) do
    if redis.call("HGET", p .. "job:" .. id, "host") == ARGV[5] then ids[#ids + 1] = id end
  end
else
  local now = redis.call("TIME")
  ids = redis.call("ZRANGEBYSCORE", leases, "-inf", now[1] * 1000 + math.floor(now[2] / 1000))
end

local requeued, exhausted = {}, {}
for _, id in ipairs(ids) do
  local job = p .. "job:" .. id
  local facts = redis.call("HMGET", job, "model", "owner", "state", "cancel",
    "shift")
  redis.call("ZREM", leases, id)
  if facts[1] and facts[3] ~= "queued" then
    local faults = redis.call("HINCRBY", job, "faults", fault)
    redis.call("HDEL", job, "host")
    if faults >= most or facts[4] then
      redis.call("HSET", job, "state", "ending")
      exhausted[#exhausted + 1] = id
    else
      local queue = p .. "queue:" .. facts[1]
      local score, shift = 0, 0
      local clock = tonumber(redis.call("GET", p .. "clock:" .. facts[1]) or "0")
      if tonumber(facts[5] or "0") > 7e9 then
        -- A batch returns to the head of its own band, behind all requests of users.
        local head = redis.call("ZRANGE", queue, "7e9", "+inf", "BYSCORE", "LIMIT", 0, 1,
          "WITHSCORES")[2]
        shift = tonumber(facts[5])
        score = tonumber(head or shift + clock) - 1
      else
        -- The head may be of another band, so the score says nothing about this job's.
        local head = redis.call("ZRANGE", queue, 0, 0, "WITHSCORES")[2]
        score = tonumber(head or clock)
        -- Only batches are queued: this job is ahead of them, in the band of users.
        if score > 7e9 then score = clock end
        score = score - 1
      end
      redis.call("HSET", job, "state", "queued", "shift", shift)
      redis.call("ZADD", queue, score, id)
      redis.call("ZADD", p .. "line:" .. facts[1] .. ":" .. facts[2], score - shift, id)
      redis.call("SADD", p .. "models", facts[1])
      redis.call("PUBLISH", p .. "hint:jobs", facts[1])
      requeued[#requeued + 1] = id
    end
  end
end
return {requeued, exhausted}
