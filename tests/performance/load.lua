-- wrk's side of a workload: a POST per request, each with a fresh seed; one line of JSON at the end.
-- Arguments: samples a request, the first seed. Run with one thread: seeds are counted per thread.

local count, seed

function init(args)
  count, seed = args[1], tonumber(args[2])
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  wrk.headers["Accept"] = "application/x-npy"
end

function request()
  seed = seed + 1
  return wrk.format(nil, nil, nil, string.format('{"count":%s,"seed":%d}', count, seed))
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests":%d,"microseconds":%d,"bytes":%d,"bad_status":%d,"bad_socket":%d,"p50":%.3f,"p99":%.3f}\n',
    summary.requests, summary.duration, summary.bytes, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
