-- SPDX-License-Identifier: Apache-2.0
-- With the argument "distinct", give each request an X-Request-Id of its own in the place of the "@".
init = function(args)
  if args[1] == "distinct" or args[0] == "distinct" then
    local head, tail = string.match(wrk.format(), "^(.*)@(.*)$")
    local number = 0
    request = function()
      number = number + 1
      return head .. string.format("5b3f0a2c-9d1e-4f60-8a7b-%012x", number) .. tail
    end
  end
end

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
