-- The ledger's records and the moves that keep every index in step; the other files follow, as one script.
-- TASK_EDGES and DOCUMENT_EDGES come from contracts/states.py, CONSTANTS from the settings: __init__.py puts them above.
-- Keys are built here and not declared: Redis Cluster can't be a Celery broker, so it never runs this.
--
-- task:<id>                         hash   one unit of work                  index:tasks:<tenant>:<state>  zset by time
-- document:<tenant>:<id>            hash   one document, newest generation   index:documents:<tenant>[:<collection>]  zset
-- members:<tenant>:<id>:<n>         zset   its embedding tasks, by part      parts:<tenant>:<id>:<n>  set of finished ones
-- generation:<tenant>:<id>:<n>      set    the same, as the version before wrote it; see close_some
-- plan:<task>[:<owner>]             list   embedding tasks that don't exist yet: see generations.lua
-- steps                             zset   what edges over many tasks have left to do, by when the janitor goes on
-- due                               zset   when the janitor looks again      leases:<queue>  zset of live leases
-- waiting:<queue>                   zset   published and not claimed, by sequence number
-- trims                             zset   lists of finished tasks, by when their oldest entry expires
-- queue:<name>                      hash   sequence numbers of publishes
-- workers:<queue>                   zset   who takes it, by last beat        parked_workers:<queue>  those that wait
-- document_queues                   zset   where documents ever waited, by when an api last knew the queue: see take_over
-- to_settle                         zset   documents by when they ended, until the janitor has settled them
-- unsettled                         set    the same, as the version before wrote it; see adopt
-- settle_again                      zset   the same, by when they are settled once more: see settled
-- load                              hash   what is under way, for admission: see carry
-- searchable                        list   how long documents took to be READY, until an api counts it: see searchable
-- passes                            hash   how far the janitor is
-- restored:<tenant>:<id>            string when a durable record took the place of work; expires
-- scanned                           string lives while the janitor scans in time: see scan
-- probe                             string written to ask whether Redis takes writes
-- tombstone:<tenant>:<task>         string the task existed, its details may have expired
-- trace:<task>                      string the trace of a document task and all that follow from it; only where traces are on

local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1e6
local a = setmetatable(cjson.decode(ARGV[2]), {__index = CONSTANTS})
local TOMBSTONE_SECONDS = 86400
local changes = {}
local counts
local poisoned
local edges = {}

-- Counts what happened, for the metrics of whoever called: `what` it is, and of which queue or kind of task.
local function count(what, label)
  counts = counts or {}
  counts[what] = counts[what] or {}
  counts[what][label] = (counts[what][label] or 0) + 1
end

-- Names a task that is given up, for the log of whoever called.
local function note_poison(id, row)
  poisoned = poisoned or {}
  poisoned[#poisoned + 1] = {task_id = id, document_id = row.document}
end

local function record(key)
  local flat, row = redis.call('HGETALL', key), {}
  for i = 1, #flat, 2 do row[flat[i]] = flat[i + 1] end
  return next(row) and row or nil
end

local function write(key, row, fields)
  local flat = {}
  for name, value in pairs(fields) do
    if type(value) == 'number' then value = string.format('%.6f', value):gsub('%.?0+$', '') end
    row[name] = value
    flat[#flat + 1] = name
    flat[#flat + 1] = value
  end
  redis.call('HSET', key, unpack(flat))
end

local function task_key(id) return 'task:' .. id end
-- A key and no field: a row with a field that the version before doesn't know is handed back by it. Expires by itself.
local function trace_key(id) return 'trace:' .. id end
local function document_key(row) return 'document:' .. row.tenant .. ':' .. row.document end
local function generation_key(row, kind)
  return kind .. ':' .. row.tenant .. ':' .. row.document .. ':' .. row.generation
end
local function index_key(row, state) return 'index:tasks:' .. row.tenant .. ':' .. state end
-- Whether a newer version wrote a state that this one doesn't know: what has it is left to that version.
local function is_newer(state, known) return state and not known[state] end
local function finished(state) return not is_newer(state, TASK_EDGES) and next(TASK_EDGES[state]) == nil end
local function look_again(id, at) redis.call('ZADD', 'due', at, id) end

-- A number for the next publish; the caller publishes after the script has run.
local function next_publish(id, row)
  local sequence = redis.call('HINCRBY', 'queue:' .. row.queue, 'published', 1)
  write(task_key(id), row, {sequence = sequence, published_at = now})
  redis.call('ZREM', 'due', id)
  redis.call('ZADD', 'waiting:' .. row.queue, sequence, id)
  return {task_id = id, name = row.name, queue = row.queue, sequence = sequence}
end

-- What is under way is counted by the moves themselves, so it can't drift from the rows. Fields of `load`:
-- `documents` that haven't ended, in all and as `documents:<tenant>:<key>` by API key; `tokens` of the embedding
-- tasks that haven't; `resume_at` while document workers are held: the tokens at which they go on.
local function carry(field, amount)
  local total = redis.call('HINCRBY', 'load', field, amount)
  if total == 0 then redis.call('HDEL', 'load', field) end
  return total
end

-- A row from before there were counters was not counted, and must not be taken off.
local function carry_document(document, sign)
  if not document.uploaded_by then return end
  carry('documents', sign)
  carry('documents:' .. document.tenant .. ':' .. document.uploaded_by, sign)
end

local function carry_task(row, sign)
  if not row.tokens or tonumber(row.tokens) == 0 then return end
  local left = carry('tokens', sign * tonumber(row.tokens))
  local resume_at = redis.call('HGET', 'load', 'resume_at')
  if resume_at and left <= tonumber(resume_at) then redis.call('HDEL', 'load', 'resume_at') end
end

-- From now on the details of a task that has ended are kept for a while, and its list is trimmed after that.
local function keep_for_a_while(id, row)
  redis.call('EXPIRE', task_key(id), a.expires)
  redis.call('ZADD', 'trims', 'NX', now + a.expires, index_key(row, row.state))
end

local function move_task(id, row, state, fields)
  assert(TASK_EDGES[row.state][state], 'task ' .. row.state .. ' -> ' .. state)
  redis.call('ZREM', index_key(row, row.state), id)
  redis.call('ZADD', index_key(row, state), now, id)
  if row.state ~= 'STARTED' then redis.call('ZREM', 'waiting:' .. row.queue, id) end
  fields.state = state
  if state ~= 'STARTED' then
    redis.call('ZREM', 'leases:' .. row.queue, id)
    fields.lease_until = 0
  end
  if finished(state) then fields.completed_at = now end
  write(task_key(id), row, fields)
  if state == 'SUCCESS' then  -- what an earlier try ended with is nobody's business now
    row.error = nil
    redis.call('HDEL', task_key(id), 'error')
  end
  if finished(state) then
    carry_task(row, -1)
    redis.call('ZREM', 'due', id)
    keep_for_a_while(id, row)
    redis.call('SET', 'tombstone:' .. row.tenant .. ':' .. id, state, 'EX', a.expires + TOMBSTONE_SECONDS)
  end
  if state ~= 'PENDING' then
    changes[#changes + 1] = {task_id = id, state = state, result = row.result, error = row.error}
  end
end

local function new_task(id, row)
  row.state, row.fence, row.attempt, row.deaths, row.done, row.lease_until = 'PENDING', 0, 0, 0, 0, 0
  row.created_at = now
  write(task_key(id), row, row)
  carry_task(row, 1)
  redis.call('ZADD', index_key(row, 'PENDING'), now, id)
  if row.parent then redis.call('ZADD', generation_key(row, 'members'), row.part, id) end
  return next_publish(id, row)
end

local function is_open(document)
  return document.state ~= 'READY' and document.state ~= 'FAILED' and document.state ~= 'REVOKED'
end

-- Takes a document off the janitor's lists: it is in work again, or gone.
local function forget_end(member)
  redis.call('ZREM', 'to_settle', member)
  redis.call('ZREM', 'settle_again', member)
end

local function move_document(row, state, fields)
  assert(DOCUMENT_EDGES[row.state][state], 'document ' .. row.state .. ' -> ' .. state)
  fields.state, fields.updated_at = state, now
  write('document:' .. row.tenant .. ':' .. row.id, row, fields)
  if not is_open(row) then
    carry_document(row, -1)
    redis.call('ZADD', 'to_settle', now, row.tenant .. ':' .. row.id)
    redis.call('EXPIRE', task_key(row.task_id), a.expires)
  end
end

-- Since when a document that has ended is over: its runs before a durable record took their place hear only of that.
local function ended_at(document)
  local restored_at = redis.call('GET', 'restored:' .. document.tenant .. ':' .. document.id)
  return math.max(tonumber(document.updated_at), tonumber(restored_at or 0))
end

local function deleted_key(tenant, id) return 'deleted:' .. tenant .. ':' .. id end

local function deleted_through(tenant, id)
  return tonumber(redis.call('HGET', deleted_key(tenant, id), 'generation') or 0)
end

-- Whether a task belongs to its document's newest generation and that one is not finished.
local function is_wanted(row)
  local found = redis.call('HMGET', document_key(row), 'generation', 'state')
  return found[1] == row.generation and is_open({state = found[2]})
end

-- The document, if the task belongs to its newest generation and that one is not finished.
local function open_document(row)
  local document = record(document_key(row))
  if not document or document.generation ~= row.generation then return nil end
  return is_open(document) and document or nil
end
