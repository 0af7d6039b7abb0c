-- ARGV: bury or not, then id, token, code, status, attempts, error, payload for each.
local answers, ended, known = {}, {}, {}
for i = 2, #ARGV, 7 do
  local id = ARGV[i]
  local found = redis.call('HMGET', message(id), 'token', 'fingerprint')
  if found[1] == ARGV[i + 1] and not known[id] then
    if ARGV[1] == '1' then bury(id, ARGV[i + 5]) end
    answers[#answers + 1] = store(id, found[2], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4], ARGV[i + 5], ARGV[i + 6])
    ended[#ended + 1], known[id] = id, true
  else
    answers[#answers + 1] = 0
  end
end
drop(ended)
return answers
