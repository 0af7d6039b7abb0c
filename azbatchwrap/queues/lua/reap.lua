-- ARGV: limit, crashes a message may have, seconds that results stay, length of history.
local limit = tonumber(ARGV[1])
local counts = {expire(limit), 0, 0, 0}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', leased, '-inf', stamp, 'LIMIT', 0, limit)) do
  local found = redis.call('HMGET', message(id), 'attempts', 'crashes', 'started', 'cancelled', 'deadline', 'rank')
  -- The first death counts whether it was sent or only held.
  local crashes = tonumber(found[2] or 0)
  crashes = crashes == 0 and 1 or crashes + tonumber(found[3] or 0)
  if found[4] then
    finish(id, 'CANCELLED', '', found[1], 'cancelled on request', '')
    counts[4] = counts[4] + 1
  elseif tonumber(found[5]) <= now then
    expired(id)
    counts[1] = counts[1] + 1
  elseif crashes >= tonumber(ARGV[2]) then
    local text = crashes .. ' workers died while they handled it'
    note(id, text, tonumber(ARGV[4]))
    bury(id, text)
    finish(id, 'POISONED', '', found[1], text, '')
    counts[3] = counts[3] + 1
  else
    note(id, "its worker's lease ended", tonumber(ARGV[4]))
    redis.call('HDEL', message(id), 'token')
    redis.call('HSET', message(id), 'crashes', crashes)
    redis.call('ZREM', leased, id)
    redis.call('ZADD', ready, found[6], id)
    redis.call('ZADD', deadlines, found[5], id)
    counts[2] = counts[2] + 1
  end
end
local before = string.format('%.0f', (now - tonumber(ARGV[3])) * 1000)
for _, entry in ipairs(redis.call('XRANGE', results, '-', '(' .. before, 'COUNT', limit)) do
  local fields = entry[2]
  for i = 1, #fields, 2 do
    if fields[i] == 'id' then redis.call('HDEL', done, fields[i + 1]) end
  end
  redis.call('XDEL', results, entry[1])
end
return counts
