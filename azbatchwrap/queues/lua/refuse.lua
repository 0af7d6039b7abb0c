-- ARGV: id, raw bytes, reason for each.
for i = 1, #ARGV, 3 do
  local id, reason = ARGV[i], ARGV[i + 2]
  if redis.call('EXISTS', message(id)) == 0 and store(id, '', 'INVALID_REQUEST', '', 0, reason, '') == 1 then
    redis.call('HSET', letter(id), 'fingerprint', '', 'rank', 0, 'deadline', 0, 'meta', '', 'body', ARGV[i + 1],
      'history', string.format('%.3f ', now) .. reason .. '\n', 'reason', reason, 'at', stamp)
    redis.call('ZADD', dead, stamp, id)
  end
end
return 0
