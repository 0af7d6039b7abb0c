-- In front of every script: names, time, and the ways a message changes state. One script is one atomic step.
--   m:<id>     hash of a message that has no result yet       ready      ids by rank, to be claimed now
--   delayed    ids by the time they become ready              leased     ids by the end of their lease
--   deadlines  ids by deadline                                ages       ids by the time they were put
--   results    stream of results                              done       id -> fingerprint and place in the stream
--   dead       ids by the time they were buried               d:<id>     hash of a dead letter
local base, delayed, channel = KEYS[1], KEYS[2], KEYS[3]
local ready, leased, deadlines = base .. 'ready', base .. 'leased', base .. 'deadlines'
local ages, results, done, dead = base .. 'ages', base .. 'results', base .. 'done', base .. 'dead'

local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local stamp = string.format('%.6f', now)

local function message(id) return base .. 'm:' .. id end
local function letter(id) return base .. 'd:' .. id end

local function note(id, text, length)
  local history = (redis.call('HGET', message(id), 'history') or '') .. string.format('%.3f ', now) .. text .. '\n'
  redis.call('HSET', message(id), 'history', string.sub(history, -length))
end

local function last(history)
  local line = string.match(history or '', '([^\n]*)\n$')
  return line and string.match(line, '^%S+ (.*)$') or ''
end

-- The seed's result message: the payload is JSON text already.
local function publish(id, code, error, payload)
  if channel == '' then return end
  local text
  if code == 'OK' then text = '{"id":' .. cjson.encode(id) .. ',"payload":' .. payload .. '}'
  else text = cjson.encode({id = id, error = code .. ': ' .. error}) end
  redis.call('PUBLISH', channel, text)
end

local function store(id, fingerprint, code, status, attempts, error, payload)
  local place = redis.call('XADD', results, '*', 'id', id, 'code', code, 'status', status, 'attempts', attempts,
    'error', error, 'payload', payload, 'finished', stamp)
  if redis.call('HSETNX', done, id, fingerprint .. ' ' .. place) == 0 then
    redis.call('XDEL', results, place)
    return 0
  end
  publish(id, code, error, payload)
  return 1
end

-- Many at once: each command is a line in the server's log.
local function add(set, pairs)
  if #pairs > 0 then redis.call('ZADD', set, unpack(pairs)) end
end

-- Messages that have ended; gives how many of them were leased.
local function drop(ids)
  if #ids == 0 then return 0 end
  local keys = {}
  for i, id in ipairs(ids) do keys[i] = message(id) end
  redis.call('DEL', unpack(keys))
  redis.call('ZREM', deadlines, unpack(ids))
  redis.call('ZREM', ages, unpack(ids))
  return redis.call('ZREM', leased, unpack(ids))
end

-- End a message with a result. Its fingerprint lives on in `done`.
local function finish(id, code, status, attempts, error, payload, fingerprint)
  fingerprint = fingerprint or redis.call('HGET', message(id), 'fingerprint') or ''
  local stored = store(id, fingerprint, code, status, attempts, error, payload)
  if drop({id}) == 0 and redis.call('ZREM', ready, id) == 0 then redis.call('ZREM', delayed, id) end
  return stored
end

local function bury(id, reason)
  redis.call('DEL', letter(id))
  redis.call('COPY', message(id), letter(id))
  redis.call('HDEL', letter(id), 'token')
  redis.call('HSET', letter(id), 'reason', reason, 'at', stamp)
  redis.call('ZADD', dead, stamp, id)
end

local function expired(id)
  local found = redis.call('HMGET', message(id), 'attempts', 'history')
  local attempts = tonumber(found[1] or 0)
  local text = 'the deadline passed before the first attempt'
  if attempts > 0 then
    text = 'the deadline passed after ' .. attempts .. ' attempt' .. (attempts ~= 1 and 's' or '')
  end
  local because = last(found[2])
  if because ~= '' then text = text .. '; the last one: ' .. because end
  finish(id, 'DEADLINE_EXCEEDED', '', attempts, text, '')
end

-- Messages in a worker's hands are its own affair until their lease ends: reaping leases looks at the deadline too.
local function expire(limit)
  local count = 0
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', deadlines, '-inf', stamp, 'LIMIT', 0, limit)) do
    if redis.call('ZSCORE', leased, id) then
      redis.call('ZREM', deadlines, id)
    else
      expired(id)
      count = count + 1
    end
  end
  return count
end

local function holds(id, token)
  return redis.call('HGET', message(id), 'token') == token
end
