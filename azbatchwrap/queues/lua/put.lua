-- ARGV: id, fingerprint, rank, due, deadline, meta, body for each item.
local answers, soon, later, ends, begins = {}, {}, {}, {}, {}
local function note_down(pairs, score, id) pairs[#pairs + 1], pairs[#pairs + 2] = score, id end
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
    if tonumber(due) > now then note_down(later, due, id) else note_down(soon, ARGV[i + 2], id) end
    note_down(ends, ARGV[i + 4], id)
    note_down(begins, stamp, id)
    answers[#answers + 1] = 'stored'
  end
end
add(ready, soon)
add(delayed, later)
add(deadlines, ends)
add(ages, begins)
return answers
