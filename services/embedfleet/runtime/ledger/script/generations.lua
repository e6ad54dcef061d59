-- The tasks of a generation: how they come into being, and how they end when it can't become READY.
--
-- A document may have thousands, and nothing else runs in Redis meanwhile. So an edge moves the document, and
-- `slice` of its tasks at most. The rest is a step in `steps`: whoever took the edge goes on with it, and when he
-- dies the janitor does. What is not closed yet can't be claimed, and its owner is refused: the document is closed.
--
--   spread:<task>                        embedding tasks of a document task that come into being, out of plan:<task>
--   close:<tenant>:<document>:<number>   tasks of a generation that are REVOKED, out of its list

local budget = a.slice
local next_step

-- Notes whether a step has something left; `at`: when the janitor goes on with it.
local function note_step(name, is_left, at)
  if is_left then
    redis.call('ZADD', 'steps', at, name)
    next_step = name
  else
    redis.call('ZREM', 'steps', name)
  end
end

local function why_closed(row)
  if tonumber(row.generation) <= deleted_through(row.tenant, row.document) then return a.deleted_error end
  local found = redis.call('HMGET', document_key(row), 'generation', 'state')
  if found[1] ~= tostring(row.generation) then return a.superseded_error end
  if found[2] == 'READY' then return a.restored_error end
  return found[2] == 'FAILED' and a.sibling_error or a.revoked_error
end

local function close_task(id, error)
  local row = record(task_key(id))
  if row and is_newer(row.state, TASK_EDGES) then return look_again(id, now + a.recheck) end
  if row and not finished(row.state) then move_task(id, row, 'REVOKED', {error = error or why_closed(row)}) end
end

local function close_some(generation, error)
  local key, before = generation_key(generation, 'members'), generation_key(generation, 'generation')
  local popped = budget > 0 and redis.call('ZPOPMIN', key, budget) or {}
  budget = budget - #popped / 2
  for at = 1, #popped, 2 do close_task(popped[at], error) end
  popped = budget > 0 and redis.call('SPOP', before, budget) or {}
  budget = budget - #popped
  for _, id in ipairs(popped) do close_task(id, error) end
  local name = 'close:' .. generation.tenant .. ':' .. generation.document .. ':' .. generation.generation
  note_step(name, redis.call('EXISTS', key, before) > 0, now)
end

-- Ends all tasks of a document that is closed, or about to be; `row`: any of them, or what names the generation.
local function close_tasks(row, error)
  local id = redis.call('HGET', document_key(row), 'task_id')
  if id then close_task(id, error) end
  close_some(row, error)
end

local function new_part(parent, id, part)
  return new_task(part.task_id, {name = a.embedding_name, queue = a.embedding_queue, tenant = parent.tenant,
    document = parent.document, generation = parent.generation, parent = id, part = part.part, total = part.chunks,
    chunk_file = part.chunk_file, tokens = part.tokens, stage = 'queued'})
end

local function plan_key(claim) return 'plan:' .. claim.task_id .. ':' .. claim.owner end

-- The plan is of one run: `chunked` takes over that of the run which ends the task.
local function take_plan(claim, length)
  local id, key = claim.task_id, plan_key(claim)
  if redis.call('LLEN', key) ~= length then return false end
  redis.call('RENAME', key, 'plan:' .. id)
  redis.call('PERSIST', 'plan:' .. id)
  note_step('spread:' .. id, true, now + a.recheck)
  return true
end

local function spread(id, publish, at)
  local key, row = 'plan:' .. id, record(task_key(id))
  if not (row and is_wanted(row)) then redis.call('UNLINK', key) end
  for _, part in ipairs(redis.call('LPOP', key, a.slice) or {}) do
    publish[#publish + 1] = new_part(row, id, cjson.decode(part))
  end
  note_step('spread:' .. id, redis.call('EXISTS', key) == 1, at)
end

-- Answers whether this version knows such a step. `at`: when the janitor goes on with what is left of it.
local function take_step(name, publish, at)
  local id = string.match(name, '^spread:(.*)$')
  local tenant, document, number = string.match(name, '^close:([^:]*):([^:]*):(%d+)$')
  if id then
    spread(id, publish, at)
  elseif tenant then
    close_some({tenant = tenant, document = document, generation = number})
  end
  return id or tenant
end

-- Goes on with a step; one that is done already has nothing left. Whoever calls goes on with the next slice, too.
function edges.step()
  local publish = {}
  take_step(a.step, publish, now + a.recheck)
  return {publish = publish}
end

local function count_chunks(id, row, done)
  local before = tonumber(row.done)
  if done == before then return end
  write(task_key(id), row, {done = done})
  if row.queue ~= a.embedding_queue or not is_wanted(row) then return end
  redis.call('HINCRBY', document_key(row), 'chunks_done', done - before)
end

local function fail_task(id, row, error)
  move_task(id, row, 'FAILURE', {error = error})
  local document = open_document(row)
  if document then
    move_document(document, 'FAILED', {error = error})
    close_tasks(row, a.sibling_error)
  end
end

-- A lease that ran out is a death; at the cap the task is poison. Answers whether it may be tried again.
local function bury(id, row)
  if not is_wanted(row) then
    close_task(id)
    return false
  end
  local deaths = tonumber(row.deaths) + 1
  local is_poison = deaths >= a.max_deaths
  if is_poison and is_newer(redis.call('HGET', document_key(row), 'state'), DOCUMENT_EDGES) then
    look_again(id, now + a.recheck)
    return false
  end
  count('expired_leases', row.queue)
  if is_poison then
    count('poison_tasks', row.name)
    note_poison(id, row)
    fail_task(id, row, a.poison_error)
    return false
  end
  count_chunks(id, row, 0)
  move_task(id, row, 'PENDING', {deaths = deaths, stage = 'queued'})
  return true
end

-- Whether a claim is the latest of a task. Fences begin again after a loss of Redis; an owner is that of one run.
local function is_latest(claim, row)
  return tonumber(row.fence) == claim.fence and row.owner == claim.owner
end

-- The task's row, if this claim has it; else nothing, and the row as it is.
local function held(claim)
  local row = record(task_key(claim.task_id))
  if row and row.state == 'STARTED' and is_latest(claim, row) then return row end
  return nil, row
end

-- The task's row and its open document, if this claim has the task. Where the document is closed, the task is revoked
-- on the spot: its slice hadn't come yet.
local function owned(claim)
  local row, found = held(claim)
  if not row then return nil, found end
  local document = open_document(row)
  if document then return row, document end
  close_task(claim.task_id)
  return nil
end
