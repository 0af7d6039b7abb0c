-- ARGV: id, token for each claim.
local answers = {}
for i = 1, #ARGV, 2 do
  if holds(ARGV[i], ARGV[i + 1]) then
    redis.call('HSET', message(ARGV[i]), 'started', 1)
    answers[#answers + 1] = 1
  else
    answers[#answers + 1] = 0
  end
end
return answers
