-- ARGV: bury or not, then id, token, code, status, attempts, error, payload for each.
local answers = {}
for i = 2, #ARGV, 7 do
  local id = ARGV[i]
  local found = redis.call('HMGET', message(id), 'token', 'fingerprint')
  if found[1] == ARGV[i + 1] then
    if ARGV[1] == '1' then bury(id, ARGV[i + 5]) end
    answers[#answers + 1] = finish(id, ARGV[i + 2], ARGV[i + 3], ARGV[i + 4], ARGV[i + 5], ARGV[i + 6], found[2])
  else
    answers[#answers + 1] = 0
  end
end
return answers
