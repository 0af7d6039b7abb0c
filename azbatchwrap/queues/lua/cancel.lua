-- ARGV: ids.
local answers = {}
for _, id in ipairs(ARGV) do
  if redis.call('EXISTS', message(id)) == 0 then
    answers[#answers + 1] = redis.call('HEXISTS', done, id) == 1 and 'finished' or 'unknown'
  elseif redis.call('ZSCORE', leased, id) then
    redis.call('HSET', message(id), 'cancelled', 1)
    answers[#answers + 1] = 'requested'
  else
    finish(id, 'CANCELLED', '', redis.call('HGET', message(id), 'attempts'), 'cancelled on request', '')
    answers[#answers + 1] = 'cancelled'
  end
end
return answers
