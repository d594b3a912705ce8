-- wrk [OPTIONS] -s wrk.lua URL [-- METHOD [latencies]]: adds one line of JSON with exact figures to the report.
-- The histogram of latencies is optional: listing thousands of them takes wrk as long as many requests.

function setup(thread)
  one = thread -- `done` runs in another state than `init`, and reads its variables from the thread
end

function init(arguments)
  if arguments[1] == "POST" then
    wrk.method = "POST"
    wrk.body = string.rep("x", 65536)
  end
  listed = arguments[2] == "latencies"
end

function done(summary, latency)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  local counts = {}
  for i = 1, one:get("listed") and #latency or 0 do
    counts[i] = string.format("[%d, %d]", latency(i))
  end
  local line = '{"requests": %d, "bytes": %d, "microseconds": %d, "failed": %d, "latencies": [%s]}\n'
  io.write(string.format(line, summary.requests, summary.bytes, summary.duration, failed, table.concat(counts, ", ")))
end
