-- Renews and takes the leases of remote engines.
-- KEYS: one key for each engine. ARGV: host, lease_ms, the number of leading keys to hold.
-- Returns: the owner of each engine afterwards, "" for none.
local host, lease, wanted = ARGV[1], ARGV[2], tonumber(ARGV[3])
local owners = {}
for i, key in ipairs(KEYS) do
  local owner = redis.call("GET", key) or ""
  if i <= wanted and (owner == "" or owner == host) then
    redis.call("SET", key, host, "PX", lease)
    owner = host
  end
  owners[i] = owner
end
return owners
