-- SPDX-License-Identifier: Apache-2.0
-- Arguments: "distinct=1" gives each request an X-Request-Id of its own in the place of the "@@"; "upload=N" sends N bytes with
-- each request; "host=NAME", as often as wanted, makes these the Host of the requests in turn.
local heads, tails, number = {}, {}, 0
local distinct = false

local function add()
  local whole = wrk.format()
  local head, tail = string.match(whole, "^(.-)@@(.*)$")
  heads[#heads + 1] = distinct and head or whole
  tails[#tails + 1] = tail
end

init = function(args)
  local hosts = {}
  for i = 0, #args do
    local name, value = string.match(args[i] or "", "^(%l+)=(.*)$")
    if name == "distinct" then distinct = true end
    if name == "host" then hosts[#hosts + 1] = value end
    if name == "upload" then
      wrk.method = "POST"
      wrk.body = string.rep("u", tonumber(value))
    end
  end
  for _, host in ipairs(hosts) do
    wrk.headers["Host"] = host
    add()
  end
  if #hosts == 0 then add() end
  if distinct then
    request = function()
      number = number + 1
      local at = number % #heads + 1
      return heads[at] .. string.format("5b3f0a2c-9d1e-4f60-8a7b-%012x", number) .. tails[at]
    end
  elseif #heads > 1 or wrk.method == "POST" then
    request = function()
      number = number + 1
      return heads[number % #heads + 1]
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
