-- Deletes a job whose end is saved. ARGV: prefix, id, attempt ("" for any)
-- Returns 1, or 0 if a later attempt has it.
local p, id = ARGV[1], ARGV[2]
local job = p .. "job:" .. id
local facts = redis.call("HMGET", job, "owner", "model", "attempt")
if not facts[1] then return 1 end
if ARGV[3] ~= "" and facts[3] ~= ARGV[3] then return 0 end
redis.call("ZREM", p .. "queue:" .. facts[2], id)
redis.call("ZREM", p .. "line:" .. facts[2] .. ":" .. facts[1], id)
redis.call("ZREM", p .. "leases", id)
redis.call("SREM", p .. "open:" .. facts[1], id)
redis.call("DEL", job)
return 1
