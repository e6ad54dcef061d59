-- How the queues are: who takes them, and what waits. For people and for metrics; no edge of a task reads it.

-- Lists a worker process, or takes it off the list; a, for it, is the beat of that process.
local function list_worker(key, belongs)
  if belongs then redis.call('ZADD', key, now, a.worker) else redis.call('ZREM', key, a.worker) end
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now - 4 * a.lease)
  redis.call('PEXPIRE', key, math.ceil(4000 * a.lease))
end

-- Each entry is one process's own: only it writes it, with every beat, and takes it off when it takes the queue no
-- more. What a process that died has left counts for a lease, as its claims do (see `overview`). The next beat of
-- any other prunes it, and after the last one the keys expire. A worker whose gate is closed is in both lists.
local function note_presence()
  list_worker('workers:' .. a.queue, a.takes)
  list_worker('parked_workers:' .. a.queue, a.takes and a.parked)
end

-- Since when the task whose message comes next waits; nothing without one. Numbers are handed out in the order of
-- the messages. A message that is written anew goes to the end, but its task's time counts on. Entries whose row is
-- gone are passed by, a few of them: the janitor takes them off.
local function waits_since(queue)
  for _, id in ipairs(redis.call('ZRANGE', 'waiting:' .. queue, 0, 9)) do
    local row = record(task_key(id))
    if row and row.state == 'RETRY' then return tonumber(row.next_at) end
    if row then return tonumber(redis.call('ZSCORE', index_key(row, row.state), id) or row.published_at) end
  end
end

-- Whether document workers take nothing more: see is_held.
local function are_held() return a.high_water > 0 and redis.call('HEXISTS', 'load', 'resume_at') == 1 end

-- Keeps how long a document took to be READY until an api is scraped: a worker's own series would begin with it, or
-- end before it is read. The list is as long as one scrape takes; of more the oldest are not counted.
local SEARCHABLE = 5000
local function note_searchable(seconds)
  redis.call('RPUSH', 'searchable', string.format('%.3f', math.max(seconds, 0)))
  redis.call('LTRIM', 'searchable', -SEARCHABLE, -1)
end

-- Takes what was kept, unless this Redis takes no writes now: how the queues are is told all the same.
local function take_searchable()
  local taken = redis.pcall('LPOP', 'searchable', SEARCHABLE)
  return type(taken) == 'table' and not taken.err and taken or nil
end

-- All queues at one moment. As many commands for a thousand tasks as for one. `alive`: seconds that a sign of life
-- of a worker lasts. `take`: of documents that became READY, too, which are told to nobody again.
function edges.overview()
  local queues = {}
  for _, name in ipairs(a.queues) do
    local since = waits_since(name)
    queues[#queues + 1] = {
      name = name,
      depth = redis.call('LLEN', name),
      inflight = redis.call('ZCARD', 'leases:' .. name),
      oldest_age = since and math.max(now - since, 0) or 0,
      consumers = redis.call('ZCOUNT', 'workers:' .. name, now - a.alive, '+inf'),
      parked = redis.call('ZCOUNT', 'parked_workers:' .. name, now - a.alive, '+inf'),
      tokens = name == a.embedding_queue and tonumber(redis.call('HGET', 'load', 'tokens') or 0) or nil,
    }
    if name ~= a.embedding_queue then queues[#queues].held = are_held() end
  end
  return {
    queues = queues,
    due = redis.call('ZCOUNT', 'due', '-inf', now),
    last_round = tonumber(redis.call('HGET', 'passes', 'round') or 0),
    searchable = a.take and take_searchable() or nil,
  }
end
