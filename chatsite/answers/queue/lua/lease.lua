-- Leases the first job in a model's queue to a host.
-- ARGV: prefix, model, host, lease_ms
-- Returns: {id, attempt, faults, payload}, or false if the queue is empty.
local p, model, host = ARGV[1], ARGV[2], ARGV[3]
local queue, clock = p .. "queue:" .. model, p .. "clock:" .. model
while true do
  local first = redis.call("ZPOPMIN", queue)
  if not first[1] then
    -- The queue is empty, so no start time refers to the clock: reset it.
    redis.call("DEL", clock)
    redis.call("SREM", p .. "models", model)
    return false
  end
  local id = first[1]
  local job = p .. "job:" .. id
  local facts = redis.call("HMGET", job, "owner", "cost", "shift")
  local owner = facts[1]
  -- Jobs of an earlier version have no cost; their scores are far below the clock.
  local finish = math.floor(tonumber(first[2]) - tonumber(facts[3] or "0"))
  local start = finish - tonumber(facts[2] or "100")
  if owner then
    redis.call("ZREM", p .. "line:" .. model .. ":" .. owner, id)
    if start > tonumber(redis.call("GET", clock) or "0") then redis.call("SET", clock, start) end
    local now = redis.call("TIME")
    redis.call("ZADD", p .. "leases", now[1] * 1000 + math.floor(now[2] / 1000) + ARGV[4], id)
    redis.call("HSET", job, "state", "running", "host", host)
    local attempt = redis.call("HINCRBY", job, "attempt", 1)
    return {id, attempt, tonumber(redis.call("HGET", job, "faults")), redis.call("HGET", job, "payload")}
  end
end
