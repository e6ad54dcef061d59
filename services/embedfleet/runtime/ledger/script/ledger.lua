-- The edges of a run, and the call itself. Each is one atomic compare-and-set on (state, fence, owner); terminal states absorb.
--
-- ARGV[1]  name of the edge        ARGV[2]  its arguments, a JSON object       returns a JSON object
-- A call whose answer was lost may be repeated: it has no second effect, and a claim or an end answers the same.

-- Remembers which sequence numbers were claimed at least `lost_after` seconds ago: a task that was
-- published before one of those and is still not claimed has lost its message.
local function note_claim(name)
  local queue = record('queue:' .. name) or {}
  if a.sequence <= tonumber(queue.claimed or 0) then return end
  local fields = {claimed = a.sequence, claimed_at = now}
  if now - tonumber(queue.claimed_at or now) >= a.lost_after then fields.settled = queue.claimed end
  if now - tonumber(queue.mark_at or 0) >= a.lost_after then
    fields.settled = fields.settled or queue.mark
    fields.mark, fields.mark_at = a.sequence, now
  end
  write('queue:' .. name, queue, fields)
end

-- Whether documents have to wait because too many tokens do already. Once they do, they wait until few enough
-- are left: else each finished embedding task would let one document in, and the pool would never rest.
local function is_held(row)
  if row.queue == a.embedding_queue or a.high_water == 0 then return false end
  local tokens = tonumber(redis.call('HGET', 'load', 'tokens') or 0)
  if tokens >= a.high_water then redis.call('HSET', 'load', 'resume_at', a.low_water) end
  return are_held()
end

function edges.claim()
  local row = record(task_key(a.task_id))
  if not row then return {refused = 'unknown'} end
  if row.name ~= a.name then return {refused = 'foreign'} end
  -- Another number is that of an older wake-up, or from before a loss of Redis: it says nothing of the queue.
  if a.sequence == tonumber(row.sequence) then note_claim(row.queue) end
  if is_newer(row.state, TASK_EDGES) then return {refused = 'newer'} end
  if finished(row.state) then return {refused = 'finished'} end
  local lives = tonumber(row.lease_until) > now or redis.call('EXISTS', 'grace') == 1
  if row.state == 'STARTED' and row.owner ~= a.owner and lives then return {refused = 'held'} end
  if row.state == 'RETRY' and tonumber(row.next_at) > now then return {refused = 'early'} end
  local document = open_document(row)
  if not document then
    close_task(a.task_id)
    return {refused = 'revoked'}
  end
  if row.owner ~= a.owner or row.state ~= 'STARTED' then
    if is_held(row) then return {refused = 'backlog'} end
    if row.state == 'STARTED' and not bury(a.task_id, row) then return {refused = 'finished'} end
    move_task(a.task_id, row, 'STARTED', {fence = tonumber(row.fence) + 1, owner = a.owner, stage = 'claimed',
              started_at = row.started_at or now, lease_until = now + a.lease})
    redis.call('ZADD', 'leases:' .. row.queue, now + a.lease, a.task_id)
    look_again(a.task_id, now + a.lease)
  end
  if document.state == 'QUEUED' and row.queue ~= a.embedding_queue then move_document(document, 'PARSING', {}) end
  document.result = nil  -- of the document task, for the API: a run needs none of it, and it may be long
  local trace = a.trace and redis.call('GET', trace_key(row.parent or a.task_id))
  return {task = row, document = document, trace = trace or nil}
end

-- One call for all leases of a process; answers which of them it has lost.
function edges.beat()
  local lost = {}
  note_presence()
  for _, pulse in ipairs(a.leases) do
    local row = held(pulse)
    if row and is_wanted(row) then
      redis.call('ZADD', 'leases:' .. row.queue, now + a.lease, pulse.task_id)
      count_chunks(pulse.task_id, row, pulse.done)
      write(task_key(pulse.task_id), row, {lease_until = now + a.lease, stage = pulse.stage, total = pulse.total})
    else
      lost[#lost + 1] = pulse.owner
    end
  end
  return {lost = lost}
end

-- The document task is done: its chunks are stored, its embedding tasks come into being. `planned`: so many more
-- than `parts` are in the run's plan.
function edges.chunked()
  local row, found = owned(a)
  if not row or is_newer(found.state, DOCUMENT_EDGES) then
    redis.call('UNLINK', plan_key(a))
    return {lost = not (found and found.state == 'SUCCESS' and is_latest(a, found))}
  end
  if a.planned > 0 and not take_plan(a, a.planned) then return {lost = true} end
  local publish = {}
  for _, part in ipairs(a.parts) do publish[#publish + 1] = new_part(row, a.task_id, part) end
  move_document(found, 'EMBEDDING', {parts = #a.parts + a.planned, chunk_count = a.chunk_count, chunks_done = 0, result = a.result})
  move_task(a.task_id, row, 'SUCCESS', {result = a.result, stage = 'done', done = a.total, total = a.total})
  redis.call('PERSIST', task_key(a.task_id))  -- users ask for it until the document has ended
  return {publish = publish}
end

-- An embedding task is done; the one that completes the set flips the document's live generation.
function edges.embedded()
  local row, found = owned(a)
  if not row or is_newer(found.state, DOCUMENT_EDGES) then return {lost = not (found and found.state == 'SUCCESS' and is_latest(a, found))} end
  redis.call('HINCRBY', document_key(row), 'chunks_done', tonumber(row.total) - tonumber(row.done))
  move_task(a.task_id, row, 'SUCCESS', {result = a.result, stage = 'done', done = tonumber(row.total)})
  redis.call('SADD', generation_key(row, 'parts'), a.task_id)
  if redis.call('SCARD', generation_key(row, 'parts')) < tonumber(found.parts) then return {ready = false} end
  move_document(found, 'READY', {live_generation = row.generation, ready_at = now, chunks_done = found.chunk_count})
  local since = tonumber(uploaded_at(found)) or 0
  if since > 0 then note_searchable(now - since) end  -- one that a version before accepted doesn't say when
  return {ready = true}
end

function edges.fail()
  local row, document = owned(a)
  if not row then return {lost = true} end
  if is_newer(document.state, DOCUMENT_EDGES) then
    -- Unspent, for a newer worker: the janitor wakes it later, as this process would take it again at once.
    count_chunks(a.task_id, row, 0)
    move_task(a.task_id, row, 'PENDING', {stage = 'queued'})
    next_publish(a.task_id, row)
    return {lost = true}
  end
  local attempt = tonumber(row.attempt)
  if a.retryable and attempt < #a.delays then
    local at = now + a.delays[attempt + 1]
    count_chunks(a.task_id, row, 0)
    move_task(a.task_id, row, 'RETRY', {error = a.error, attempt = attempt + 1, next_at = at, sequence = 0, stage = 'retry'})
    look_again(a.task_id, at)
    return {state = 'RETRY', attempt = attempt + 1}
  end
  fail_task(a.task_id, row, a.error)
  return {state = 'FAILURE'}
end

-- Gives the task back unspent (drain, dependency down): the lease is released here, the publish comes after.
function edges.hand_back()
  local row = owned(a)
  if not row then return {revoked = redis.call('HGET', task_key(a.task_id), 'state') == 'REVOKED'} end
  count_chunks(a.task_id, row, 0)
  move_task(a.task_id, row, 'PENDING', {stage = 'queued', parks = tonumber(row.parks or 0) + a.parks})
  return {publish = {next_publish(a.task_id, row)}}
end

function edges.revoke()
  local row = record(task_key(a.task_id))
  if not row or row.tenant ~= a.tenant then return {revoked = false} end
  local document = open_document(row)
  if not document or is_newer(document.state, DOCUMENT_EDGES) then return {revoked = false} end
  move_document(document, 'REVOKED', {})
  close_tasks(row, a.revoked_error)
  return {revoked = true}
end

-- A document is settled as soon as it has ended, and once more `quiet_after` its end: a writer that has lost its
-- claim hears of it late, and may be killed before it takes back what it stored; deletion.lua waits as long. The
-- first generation that is READY has no such writer: what a late one stores are the same points. `began`: when the
-- settling did.
function edges.settled()
  local member = a.tenant .. ':' .. a.document
  local document = record('document:' .. member)
  if not document then
    forget_end(member)
  elseif tonumber(document.generation) == a.generation and document.state == a.state then
    forget_end(member)
    redis.call('UNLINK', generation_key(a, 'parts'))
    if not redis.call('ZSCORE', 'steps', 'close:' .. member .. ':' .. a.generation) then
      redis.call('UNLINK', generation_key(a, 'members'), generation_key(a, 'generation'))
    end
    local again_at = ended_at(document) + a.quiet_after
    if a.began < again_at and (a.state ~= 'READY' or a.generation > 1) then
      redis.call('ZADD', 'settle_again', again_at, member)
    end
  elseif not is_open(document) then
    -- What was written for the older end may stand in the place of the newer: it is settled once more.
    redis.call('ZADD', 'to_settle', now, member)
  end
  return {deleted = a.generation <= deleted_through(a.tenant, a.document)}
end

local answer = edges[ARGV[1]]()
answer.changes = changes
answer.step = next_step
answer.counts = counts
answer.poisoned = poisoned
return cjson.encode(answer)
