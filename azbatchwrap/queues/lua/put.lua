-- ARGV: id, fingerprint, rank, due, deadline, meta, body for each item.
local answers = {}
for i = 1, #ARGV, 7 do
  local id, fingerprint, due = ARGV[i], ARGV[i + 1], ARGV[i + 3]
  local known = redis.call('HGET', message(id), 'fingerprint')
  if not known then
    local ended = redis.call('HGET', done, id)
    known = ended and string.match(ended, '^(%S*) ')
  end
  if known then
    answers[#answers + 1] = known == fingerprint and 'same' or 'conflict'
  else
    redis.call('HSET', message(id), 'fingerprint', fingerprint, 'rank', ARGV[i + 2], 'deadline', ARGV[i + 4],
      'meta', ARGV[i + 5], 'body', ARGV[i + 6], 'created', stamp, 'attempts', 0, 'failures', 0, 'crashes', 0)
    if tonumber(due) > now then redis.call('ZADD', delayed, due, id)
    else redis.call('ZADD', ready, ARGV[i + 2], id) end
    redis.call('ZADD', deadlines, ARGV[i + 4], id)
    redis.call('ZADD', ages, stamp, id)
    answers[#answers + 1] = 'stored'
  end
end
return answers
