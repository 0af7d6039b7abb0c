-- ARGV: new deadline or empty, the latest deadline that sorts, then ids.
local latest = tonumber(ARGV[2])
local answers = {}
for i = 3, #ARGV do
  local id = ARGV[i]
  local found = redis.call('HMGET', letter(id), 'fingerprint', 'deadline', 'rank')
  if not found[1] or found[1] == '' then
    answers[#answers + 1] = 0
  else
    local deadline = ARGV[1] ~= '' and ARGV[1] or found[2]
    local rank = tonumber(found[3]) + math.min(tonumber(deadline), latest) - math.min(tonumber(found[2]), latest)
    local text = string.format('%.6f', rank)
    redis.call('RENAME', letter(id), message(id))
    redis.call('HDEL', message(id), 'reason', 'at', 'started', 'cancelled')
    redis.call('HSET', message(id), 'deadline', deadline, 'rank', text, 'attempts', 0, 'failures', 0, 'crashes', 0,
      'created', stamp)
    redis.call('ZREM', dead, id)
    redis.call('ZADD', ready, text, id)
    redis.call('ZADD', deadlines, deadline, id)
    redis.call('ZADD', ages, stamp, id)
    local ended = redis.call('HGET', done, id)
    if ended then
      redis.call('XDEL', results, string.match(ended, ' (%S+)$'))
      redis.call('HDEL', done, id)
    end
    answers[#answers + 1] = 1
  end
end
return answers
