-- What `fsck` brings in step again.

-- Brings every list in step with a task's row; one without a row leaves them all. `tenant`: whose lists, if it has none.
function edges.mend_task()
  local row = record(task_key(a.task_id))
  local owner = {tenant = row and row.tenant or a.tenant}
  for state in pairs(TASK_EDGES) do
    if not row or row.state ~= state then redis.call('ZREM', index_key(owner, state), a.task_id) end
  end
  for _, queue in ipairs(a.queues) do
    local runs = row and row.queue == queue and row.state == 'STARTED'
    if not runs then redis.call('ZREM', 'leases:' .. queue, a.task_id) end
    local waits = row and row.queue == queue and not finished(row.state) and row.state ~= 'STARTED'
    if not waits then redis.call('ZREM', 'waiting:' .. queue, a.task_id) end
  end
  if row and not finished(row.state) then
    redis.call('ZADD', index_key(row, row.state), 'NX', now, a.task_id)
    if not redis.call('ZSCORE', 'waiting:' .. row.queue, a.task_id) then
      redis.call('ZADD', 'due', 'NX', now, a.task_id)
    end
  else
    redis.call('ZREM', 'due', a.task_id)
  end
  return {}
end

-- The same for a document; `collection`: whose list, if it has no row.
function edges.mend_document()
  local row = record('document:' .. a.tenant .. ':' .. a.document)
  local all = 'index:documents:' .. a.tenant
  local own = all .. ':' .. (row and row.collection or a.collection)
  if row then
    redis.call('ZADD', all, 'NX', row.created_at, a.document)
    redis.call('ZADD', own, 'NX', row.created_at, a.document)
  else
    redis.call('ZREM', all, a.document)
    redis.call('ZREM', own, a.document)
    forget_end(a.tenant .. ':' .. a.document)
  end
  return {}
end
