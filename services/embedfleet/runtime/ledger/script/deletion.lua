-- Deletion: what is dead up to a generation, and stays dead.
--
-- deleted:<tenant>:<id>  hash  `generation`: this one and all before it are deleted, the next upload's is higher;
--                              `quiet_at`: until then a writer of theirs may be at work, which is `quiet_after` the
--                              end of the newest, as in `settled`; `removed`: nothing is left of this one and all
--                              before it, unless such a writer comes yet. Expires by itself.

local function remove_document(key, document)
  local row = {tenant = document.tenant, document = document.id, generation = document.generation}
  close_tasks(row, a.deleted_error)
  if is_open(document) then carry_document(document, -1) end
  redis.call('EXPIRE', task_key(document.task_id), a.expires)
  redis.call('UNLINK', key, generation_key(row, 'parts'))
  redis.call('ZREM', 'index:documents:' .. document.tenant, document.id)
  redis.call('ZREM', 'index:documents:' .. document.tenant .. ':' .. document.collection, document.id)
  forget_end(document.tenant .. ':' .. document.id)
end

-- A generation above the floor is a newer upload: it lives on, and only what it shows until then goes.
function edges.delete()
  local key, grave = 'document:' .. a.tenant .. ':' .. a.document, deleted_key(a.tenant, a.document)
  local document, before = record(key), record(grave)
  -- Where Redis has forgotten both, a writer may be at work all the same.
  local floor, quiet_at = a.generation, now + ((document or before) and a.durable_after or a.quiet_after)
  if before then
    floor, quiet_at = math.max(floor, tonumber(before.generation)), tonumber(before.quiet_at)
  end
  if document and tonumber(document.generation) <= floor then
    remove_document(key, document)
    local since = is_open(document) and now or ended_at(document)
    quiet_at = math.max(quiet_at, now + a.durable_after, since + a.quiet_after)
  elseif document and tonumber(document.live_generation) <= floor then
    write(key, document, {live_generation = 0})
  end
  write(grave, {}, {generation = floor, quiet_at = quiet_at})
  redis.call('EXPIRE', grave, a.expires + TOMBSTONE_SECONDS)
  return {quiet = quiet_at <= now}
end

-- Nothing is left of a generation that `delete` has deleted, and of all before it.
function edges.removed()
  local key = deleted_key(a.tenant, a.document)
  local grave = record(key)
  if grave then write(key, {}, {removed = math.max(tonumber(grave.removed or 0), a.generation)}) end
  return {noted = grave ~= nil}
end
