-- wrk's side of a workload: a POST per request; one line of JSON at the end.
-- Arguments: the path, the first seed, a folder of bodies named 1, 2, ..., how many, and headers as "Name: value".
-- Bodies are sent in turn. Where the path or a body holds {seed}, every request has a fresh one. Run with one
-- thread: turns and seeds are counted per thread.

local path, seed, turn, bodies = nil, 0, 0, {}

-- a text in two parts, around the place of the seed, or whole
local function split(text)
  local first, last = text:find("{seed}", 1, true)
  return first and {text:sub(1, first - 1), text:sub(last + 1)} or {text}
end

local function seeded(parts)
  return parts[2] and parts[1] .. string.format("%d", seed) .. parts[2] or parts[1]
end

function init(args)
  path, seed = split(args[1]), tonumber(args[2])
  for number = 1, tonumber(args[4]) do
    local file = assert(io.open(args[3] .. "/" .. number, "rb"))
    bodies[number] = split(file:read("*a"))
    file:close()
  end
  wrk.method = "POST"
  for number = 5, #args do
    local name, value = args[number]:match("^(.-): (.*)$")
    wrk.headers[name] = value
  end
end

function request()
  seed, turn = seed + 1, turn % #bodies + 1
  return wrk.format(nil, seeded(path), nil, seeded(bodies[turn]))
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests":%d,"microseconds":%d,"bytes":%d,"bad_status":%d,"bad_socket":%d,"p50":%.3f,"p99":%.3f}\n',
    summary.requests, summary.duration, summary.bytes, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
