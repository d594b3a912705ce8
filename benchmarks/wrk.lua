-- wrk [its options] -s wrk.lua URL [-- POST]: one line of JSON after wrk's own report, with exact figures.

function init(arguments)
  if arguments[1] == "POST" then
    wrk.method = "POST"
    wrk.body = string.rep("x", 65536)
  end
end

function done(summary, latency)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  local counts = {}
  for i = 1, #latency do
    counts[i] = string.format("[%d, %d]", latency(i))
  end
  local line = '{"requests": %d, "bytes": %d, "microseconds": %d, "failed": %d, "latencies": [%s]}\n'
  io.write(string.format(line, summary.requests, summary.bytes, summary.duration, failed, table.concat(counts, ", ")))
end
