local function first(set)
  local head = redis.call('ZRANGE', set, 0, 0, 'WITHSCORES')
  return head[2] or ''
end
return {redis.call('ZCARD', ready), redis.call('ZCARD', delayed), redis.call('ZCARD', leased),
  redis.call('XLEN', results), redis.call('ZCARD', dead), first(ages), first(deadlines), stamp}
