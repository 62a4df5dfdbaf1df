-- Puts a job in line, or says why not. Idempotent by job id.
-- ARGV: prefix, id, owner, model, payload, queue_max, person_max, ttl_s
-- Returns: the number of jobs ahead, or "queue_full" or "too_many_requests".
local p, id, owner, model = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local job, queue = p .. "job:" .. id, p .. "queue:" .. model
if redis.call("EXISTS", job) == 1 then
  return redis.call("ZRANK", queue, id) or 0
end
if redis.call("ZCARD", queue) >= tonumber(ARGV[6]) then return "queue_full" end
local open = p .. "open:" .. owner
if redis.call("SCARD", open) >= tonumber(ARGV[7]) then return "too_many_requests" end

-- Start-time fair queueing: a job starts when the line's clock or the person's last waiting job
-- says so, whichever is later, and costs one turn. Somebody's single request therefore stands
-- before all but the first of another's twenty. Ties go by arrival.
local line = p .. "line:" .. model .. ":" .. owner
local start = tonumber(redis.call("GET", p .. "clock:" .. model) or "0")
local last = redis.call("ZREVRANGE", line, 0, 0, "WITHSCORES")[2]
if last and tonumber(last) > start then start = math.floor(tonumber(last)) end
local arrival = redis.call("INCR", p .. "arrivals") % 1000000
local score = string.format("%.9f", start + 1 + arrival * 1e-7)

redis.call("HSET", job, "owner", owner, "model", model, "payload", ARGV[5], "state", "queued",
  "attempt", 0, "faults", 0)
redis.call("EXPIRE", job, ARGV[8])
redis.call("SADD", open, id)
redis.call("EXPIRE", open, ARGV[8])
redis.call("ZADD", queue, score, id)
redis.call("ZADD", line, score, id)
redis.call("SADD", p .. "models", model)
redis.call("PUBLISH", p .. "hint:jobs", model)
return redis.call("ZRANK", queue, id)
