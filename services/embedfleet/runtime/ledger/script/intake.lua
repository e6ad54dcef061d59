-- What comes in: uploads, and durable records after a loss of Redis.

-- The same upload again: nothing to do, but its task is shown once more if its details have expired. While the
-- document is in work they don't: its task is what it is revoked by.
local function unchanged(document, row)
  local key = task_key(document.task_id)
  if not row then
    row = {name = a.name, queue = a.queue, tenant = document.tenant, document = document.id, fence = 0, attempt = 0,
           generation = document.generation, state = 'SUCCESS', result = document.result, done = 0,
           created_at = document.created_at, completed_at = document.updated_at}
    write(key, row, row)
  end
  if finished(row.state) and not is_open(document) then
    redis.call('ZADD', index_key(row, row.state), now, document.task_id)
    keep_for_a_while(document.task_id, row)
  end
  return {unchanged = true, task_id = document.task_id, generation = tonumber(document.generation), state = document.state}
end

function edges.accept()
  local new = a.document
  local key = 'document:' .. new.tenant .. ':' .. new.id
  local old = record(key)
  if a.replaces and not (old and (old.task_id == a.replaces or old.task_id == new.task_id)) then
    return {unchanged = true, task_id = old and old.task_id or '', generation = 0}  -- overtaken, or deleted
  end
  if old and is_newer(old.state, DOCUMENT_EDGES) then return {newer = true} end
  local same = not a.replaces and old and old.fingerprint == new.fingerprint and old.state ~= 'FAILED' and old.state ~= 'REVOKED'
  if same or (old and old.task_id == new.task_id) then
    local row = record(task_key(old.task_id))
    if row or old.state == 'READY' then return unchanged(old, row) end
  end
  local row = record(task_key(new.task_id))
  if row and not (old and old.task_id == new.task_id) then  -- deleted or overtaken since
    return {unchanged = true, task_id = new.task_id, generation = tonumber(row.generation)}
  end
  local task = {name = a.name, queue = a.queue, tenant = new.tenant, document = new.id}
  if old then
    assert(DOCUMENT_EDGES[old.state]['QUEUED'])
    local before = {tenant = new.tenant, document = new.id, generation = old.generation}
    close_tasks(before, a.superseded_error)
    redis.call('UNLINK', generation_key(before, 'parts'))
    redis.call('EXPIRE', task_key(old.task_id), a.expires)
    new.generation, new.live_generation, new.created_at = tonumber(old.generation) + 1, old.live_generation, old.created_at
    redis.call('HDEL', key, 'error', 'chunk_count', 'parts', 'result')
    forget_end(new.tenant .. ':' .. new.id)
    if is_open(old) then carry_document(old, -1) end
  else
    new.generation, new.live_generation, new.created_at = deleted_through(new.tenant, new.id) + 1, 0, now
  end
  new.generation = math.max(new.generation, a.above + 1)
  new.state, new.updated_at, new.chunks_done = 'QUEUED', now, 0
  write(key, {}, new)
  carry_document(new, 1)
  redis.call('ZADD', 'index:documents:' .. new.tenant, new.created_at, new.id)
  redis.call('ZADD', 'index:documents:' .. new.tenant .. ':' .. new.collection, new.created_at, new.id)
  task.generation = new.generation
  redis.call('ZADD', 'document_queues', now, task.queue)
  if a.trace then redis.call('SET', trace_key(new.task_id), a.trace, 'EX', a.expires + TOMBSTONE_SECONDS) end
  return {publish = {new_task(new.task_id, task)}, task_id = new.task_id, generation = new.generation, state = 'QUEUED'}
end

local function uploaded_at(row) return cjson.decode(row.upload).uploaded_at end

-- Whether a durable record, which is always that of a READY generation, tells more than the row: Redis has come back
-- with an older state. A newer generation, a newer upload and a revocation are never undone.
local function is_behind(row, durable)
  if is_open(row) and row.task_id ~= durable.task_id and uploaded_at(row) > uploaded_at(durable) then return false end
  if row.generation ~= durable.generation then return tonumber(row.generation) < tonumber(durable.generation) end
  return row.task_id == durable.task_id and (is_open(row) or row.state == 'FAILED')
end

-- Puts back a document's record from its durable copy, unless what is here is the newer truth.
function edges.restore()
  local new = a.document
  local member = new.tenant .. ':' .. new.id
  local key = 'document:' .. member
  local old = record(key)
  if tonumber(new.generation) <= deleted_through(new.tenant, new.id) then return {restored = false} end
  if old and is_newer(old.state, DOCUMENT_EDGES) then return {restored = false, newer = true} end
  if old and not is_behind(old, new) then return {restored = false} end
  if old then
    local before = {tenant = new.tenant, document = new.id, generation = old.generation}
    close_tasks(before, old.generation == new.generation and a.restored_error or a.superseded_error)
    redis.call('EXPIRE', task_key(old.task_id), a.expires)
    redis.call('UNLINK', key, generation_key(before, 'parts'))
    if is_open(old) then
      carry_document(old, -1)
      redis.call('SET', 'restored:' .. member, now, 'EX', TOMBSTONE_SECONDS)  -- its run hears of that late
    end
    -- What its run has left behind goes as after any end.
    forget_end(member)
    redis.call('ZADD', 'to_settle', now, member)
  end
  write(key, {}, new)
  redis.call('ZADD', 'index:documents:' .. new.tenant, new.created_at, new.id)
  redis.call('ZADD', 'index:documents:' .. new.tenant .. ':' .. new.collection, new.created_at, new.id)
  return {restored = true}
end
