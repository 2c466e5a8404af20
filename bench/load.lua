-- SPDX-License-Identifier: Apache-2.0
-- Print wrk's counters and its complete latency histogram (microseconds) as one JSON line.
done = function(summary, latency, _)
  local values, counts = {}, {}
  for i = 1, #latency do
    values[i], counts[i] = latency(i)
  end
  local e = summary.errors
  io.write("JSON", string.format(
    '{"duration_us":%d,"requests":%d,"bytes":%d,"errors":{"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d},"values":[%s],"counts":[%s]}',
    summary.duration, summary.requests, summary.bytes, e.connect, e.read, e.write, e.status, e.timeout,
    table.concat(values, ","), table.concat(counts, ",")), "\n")
end
