-- Asks for the end of a job. ARGV: prefix, id
-- Returns {where, attempt}: "queued" (taken out of the line; the caller saves its end), "running" (its host has
-- been told) or "gone".
local p, id = ARGV[1], ARGV[2]
local job = p .. "job:" .. id
local facts = redis.call("HMGET", job, "state", "model", "owner", "host", "attempt")
if facts[1] == "queued" then
  redis.call("ZREM", p .. "queue:" .. facts[2], id)
  redis.call("ZREM", p .. "line:" .. facts[2] .. ":" .. facts[3], id)
  redis.call("SREM", p .. "open:" .. facts[3], id)
  redis.call("DEL", job)
  return {"queued", tonumber(facts[5])}
end
if facts[1] == "running" then
  -- The field outlasts a lost hint: the next heartbeat answers "cancel".
  redis.call("HSET", job, "cancel", 1)
  redis.call("PUBLISH", p .. "hint:host:" .. facts[4], "cancel " .. id)
  return {"running", tonumber(facts[5])}
end
return {"gone", 0}
