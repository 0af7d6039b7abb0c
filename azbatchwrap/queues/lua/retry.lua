-- ARGV: length of history, then id, token, due, attempts, failures, reason for each.
local answers = {}
for i = 2, #ARGV, 6 do
  local id, due, attempts = ARGV[i], ARGV[i + 2], ARGV[i + 3]
  if not holds(id, ARGV[i + 1]) then
    answers[#answers + 1] = 0
  elseif redis.call('HEXISTS', message(id), 'cancelled') == 1 then
    answers[#answers + 1] = finish(id, 'CANCELLED', '', attempts, 'cancelled on request', '')
  else
    note(id, ARGV[i + 5], tonumber(ARGV[1]))
    redis.call('HDEL', message(id), 'token')
    redis.call('HSET', message(id), 'attempts', attempts, 'failures', ARGV[i + 4])
    redis.call('ZREM', leased, id)
    local found = redis.call('HMGET', message(id), 'rank', 'deadline')
    if tonumber(due) > now then redis.call('ZADD', delayed, due, id)
    else redis.call('ZADD', ready, found[1], id) end
    redis.call('ZADD', deadlines, found[2], id)
    answers[#answers + 1] = 1
  end
end
return answers
