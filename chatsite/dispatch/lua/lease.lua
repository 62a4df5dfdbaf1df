-- Gives the first job in a model's line to a host.
-- ARGV: prefix, model, host, lease_ms
-- Returns: {id, attempt, faults, payload}, or false when nobody waits.
local p, model, host = ARGV[1], ARGV[2], ARGV[3]
local queue, clock = p .. "queue:" .. model, p .. "clock:" .. model
while true do
  local first = redis.call("ZPOPMIN", queue)
  if not first[1] then
    -- Nobody waits, so nobody's turn refers to the clock: start it anew.
    redis.call("DEL", clock)
    redis.call("SREM", p .. "models", model)
    return false
  end
  local id, start = first[1], math.floor(tonumber(first[2])) - 1
  local job = p .. "job:" .. id
  local owner = redis.call("HGET", job, "owner")
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
