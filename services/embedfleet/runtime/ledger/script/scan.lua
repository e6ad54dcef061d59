-- What the janitor looks for: expired leases, due retries, lost wake-ups, entries that have expired.

-- Writes a message anew: the one before was lost, or the run that it led to died.
local function publish_again(id, row, publish)
  count('republished', row.queue)
  publish[#publish + 1] = next_publish(id, row)
end

-- Publishes again what has lost its wake-up: a later one was claimed long ago, or the list is empty.
-- It looks at nothing else, so that a deep queue costs a scan no more than a short one.
local function wake_lost(name, publish)
  local queue = record('queue:' .. name) or {}
  local settled = tonumber(queue.settled or 0)
  if now - tonumber(queue.mark_at or 0) >= a.lost_after then settled = math.max(settled, tonumber(queue.mark or 0)) end
  if now - tonumber(queue.claimed_at or 0) >= a.lost_after then settled = math.max(settled, tonumber(queue.claimed or 0)) end
  local last = redis.call('LLEN', name) == 0 and '+inf' or '(' .. settled
  local ids = redis.call('ZRANGEBYSCORE', 'waiting:' .. name, '-inf', last, 'LIMIT', 0, a.limit)
  for _, id in ipairs(ids) do
    local row = record(task_key(id))
    if not row then
      redis.call('ZREM', 'waiting:' .. name, id)
    elseif tonumber(row.sequence) < settled or tonumber(row.published_at) + a.recheck <= now then
      publish_again(id, row, publish)
    else
      return false  -- this one and all after it were published only just now
    end
  end
  return #ids == a.limit
end

-- A queue of documents that no api knows any more is taken by no worker: what waits there goes where all do by
-- default. An older version may do so with a queue that it doesn't know yet: then such a file waits among the small
-- ones, and of its two messages the claim refuses one.
local function take_over(publish)
  for _, name in ipairs(a.document_queues) do redis.call('ZADD', 'document_queues', now, name) end
  local more = false
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', 'document_queues', '-inf', now - a.lost_after)) do
    local ids = redis.call('ZRANGE', 'waiting:' .. name, 0, a.limit - 1)
    for _, id in ipairs(ids) do
      local row = record(task_key(id))
      redis.call('ZREM', 'waiting:' .. name, id)
      if row and is_newer(row.state, TASK_EDGES) then
        look_again(id, now + a.recheck)
      elseif row and row.queue == name then
        write(task_key(id), row, {queue = a.document_queue})
        publish_again(id, row, publish)
      end
    end
    -- The old messages: an autoscaler would count them, were there ever workers of the queue again.
    if #ids == 0 then redis.call('UNLINK', name) end
    more = more or #ids == a.limit
  end
  return more
end

-- Looks at one task; adds what has to be published.
local function examine(id, publish)
  local row = record(task_key(id))
  if not row or finished(row.state) then
    redis.call('ZREM', 'due', id)
  elseif is_newer(row.state, TASK_EDGES) then
    look_again(id, now + a.recheck)
  elseif row.state == 'RETRY' then
    publish[#publish + 1] = next_publish(id, row)
  elseif row.state ~= 'STARTED' then
    publish_again(id, row, publish)
  elseif tonumber(row.lease_until) > now then
    look_again(id, tonumber(row.lease_until))
  elseif bury(id, row) then
    publish_again(id, row, publish)
  end
end

-- Takes expired entries off the lists of finished tasks, those of idle tenants too; a few a call.
local function trim()
  local left = 2 * a.limit
  for _, key in ipairs(redis.call('ZRANGEBYSCORE', 'trims', '-inf', now, 'LIMIT', 0, 10)) do
    local expired = math.min(redis.call('ZCOUNT', key, '-inf', now - a.expires), left)
    if expired > 0 then redis.call('ZREMRANGEBYRANK', key, 0, expired - 1) end
    left = left - expired
    local oldest = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
    if oldest[2] then
      redis.call('ZADD', 'trims', tonumber(oldest[2]) + a.expires, key)
    else
      redis.call('ZREM', 'trims', key)
    end
    if left == 0 then return true end
  end
  return redis.call('ZCOUNT', 'trims', '-inf', now) > 0
end

-- Takes over what the version before has left to be settled: it kept a set.
local function adopt()
  local members = redis.call('SPOP', 'unsettled', a.limit)
  for _, member in ipairs(members) do redis.call('ZADD', 'to_settle', 'NX', now, member) end
  return #members == a.limit
end

-- Goes on with what was left of an edge; answers whether there is more. Nobody else does, so the next slice is
-- due at once. A step of a newer version waits for its janitor, behind those that this one knows.
local function go_on(publish)
  local name = redis.call('ZRANGEBYSCORE', 'steps', '-inf', now, 'LIMIT', 0, 1)[1]
  if name and not take_step(name, publish, now) then redis.call('ZADD', 'steps', now + a.recheck, name) end
  next_step = nil
  return name and redis.call('ZCOUNT', 'steps', '-inf', now) > 0
end

-- What the janitor finds: expired leases first, then due retries and lost wake-ups, ≤ `limit` each.
-- When nobody has scanned for a while, Redis was away: leases that nobody could extend get time to be.
function edges.scan()
  local publish = {}
  if redis.call('EXISTS', 'scanned') == 0 and redis.call('EXISTS', 'grace') == 0 then
    redis.call('SET', 'grace', 1, 'PX', math.ceil(a.recheck * 1000))
  end
  redis.call('SET', 'scanned', 1, 'PX', math.ceil((a.recheck + 2 * a.scan) * 1000))
  if redis.call('EXISTS', 'grace') == 1 then return {publish = {}, more = false} end
  for _, queue in ipairs(a.queues) do
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', 'leases:' .. queue, '-inf', now, 'LIMIT', 0, a.limit)) do
      local row = record(task_key(id))
      if row and (row.state == 'STARTED' or is_newer(row.state, TASK_EDGES)) then examine(id, publish) end
      redis.call('ZREM', 'leases:' .. queue, id)  -- whatever has no row must not hold a pool up
    end
  end
  local due = redis.call('ZRANGEBYSCORE', 'due', '-inf', now, 'LIMIT', 0, a.limit)
  for _, id in ipairs(due) do examine(id, publish) end
  local more = #due == a.limit
  more = take_over(publish) or more
  for _, queue in ipairs(a.queues) do more = wake_lost(queue, publish) or more end
  more = go_on(publish) or more
  more = adopt() or more
  return {publish = publish, more = trim() or more}
end
