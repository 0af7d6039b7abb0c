-- ARGV: limit, lease in seconds, token, how many to expire, how many to promote.
expire(tonumber(ARGV[4]))
for _, id in ipairs(redis.call('ZRANGEBYSCORE', delayed, '-inf', stamp, 'LIMIT', 0, ARGV[5])) do
  redis.call('ZREM', delayed, id)
  redis.call('ZADD', ready, redis.call('HGET', message(id), 'rank'), id)
end
local claims, leases = {}, {}
local ends = string.format('%.6f', now + tonumber(ARGV[2]))
local popped = redis.call('ZPOPMIN', ready, ARGV[1])
for i = 1, #popped, 2 do
  local id = popped[i]
  local found = redis.call('HMGET', message(id), 'body', 'meta', 'deadline', 'attempts', 'failures', 'crashes', 'created')
  if found[6] == '0' then redis.call('HSET', message(id), 'token', ARGV[3])
  else redis.call('HSET', message(id), 'token', ARGV[3], 'started', 0) end
  leases[i], leases[i + 1] = ends, id
  claims[#claims + 1] = {id, found}
end
add(leased, leases)
return claims
