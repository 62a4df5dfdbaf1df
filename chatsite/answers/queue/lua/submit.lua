-- Queues a job or returns why it is refused. Idempotent by job id.
-- ARGV: prefix, id, owner, model, payload, queue_max, person_max, ttl_s, person_bytes,
--   memory_percent, cost, band
-- Returns: the number of jobs ahead, or "queue_full", "too_many_requests", "too_much_queued" or
-- "memory_full".
local p, id, owner, model = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local job, queue = p .. "job:" .. id, p .. "queue:" .. model
if redis.call("EXISTS", job) == 1 then
  return redis.call("ZRANK", queue, id) or 0
end
if redis.call("ZCARD", queue) >= tonumber(ARGV[6]) then return "queue_full" end
local open = p .. "open:" .. owner
if redis.call("SCARD", open) >= tonumber(ARGV[7]) then return "too_many_requests" end
local held = #ARGV[5]
for _, other in ipairs(redis.call("SMEMBERS", open)) do
  held = held + redis.call("HSTRLEN", p .. "job:" .. other, "payload")
end
if held > tonumber(ARGV[9]) then return "too_much_queued" end
local memory = redis.call("INFO", "memory")
local most = tonumber(string.match(memory, "\nmaxmemory:(%d+)") or "0")
local used = tonumber(string.match(memory, "used_memory:(%d+)") or "0")
if most > 0 and (used + #ARGV[5]) * 100 > most * tonumber(ARGV[10]) then return "memory_full" end

-- Start-time fair queueing: a job's start is the later of the queue's clock and the finish of the
-- owner's last queued job; its finish is `cost` later: 100 for a user of share weight 1, 50 for one
-- of weight 2. A single request of one owner is therefore ahead of all but the first of another
-- owner's twenty. Ties are broken by arrival. A higher priority band is ahead of all lower ones:
-- its scores are shifted by a constant that no virtual time reaches. Band -8 is that of batches.
local line = p .. "line:" .. model .. ":" .. owner
local start = tonumber(redis.call("GET", p .. "clock:" .. model) or "0")
local last = redis.call("ZREVRANGE", line, 0, 0, "WITHSCORES")[2]
if last and tonumber(last) > start then start = math.floor(tonumber(last)) end
local cost, shift = tonumber(ARGV[11]), 0 - 1e9 * tonumber(ARGV[12])
local arrival = (redis.call("INCR", p .. "arrivals") % 100000) * 1e-6
local finish = start + cost

redis.call("HSET", job, "owner", owner, "model", model, "payload", ARGV[5], "state", "queued",
  "attempt", 0, "faults", 0, "cost", cost, "shift", shift)
redis.call("EXPIRE", job, ARGV[8])
redis.call("SADD", open, id)
redis.call("EXPIRE", open, ARGV[8])
redis.call("ZADD", queue, string.format("%.9f", shift + finish + arrival), id)
redis.call("ZADD", line, finish, id)
redis.call("SADD", p .. "models", model)
redis.call("PUBLISH", p .. "hint:jobs", model)
return redis.call("ZRANK", queue, id)
