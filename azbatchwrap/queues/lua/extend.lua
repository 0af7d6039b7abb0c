-- ARGV: lease in seconds, then id, token for each claim.
local ends = string.format('%.6f', now + tonumber(ARGV[1]))
local answers = {}
for i = 2, #ARGV, 2 do
  local id = ARGV[i]
  if not holds(id, ARGV[i + 1]) then
    answers[#answers + 1] = 'lost'
  else
    redis.call('ZADD', leased, ends, id)
    answers[#answers + 1] = redis.call('HEXISTS', message(id), 'cancelled') == 1 and 'cancelled' or 'kept'
  end
end
return answers
