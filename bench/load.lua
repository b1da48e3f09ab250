-- The load, for wrk. The first argument says how many of a hundred requests are logins; the rest are
-- GETs that no route is about. The outcome is printed as one line for side_by_side.py.
local logins, sent = 0, 0
local form = { ["Content-Type"] = "application/x-www-form-urlencoded", ["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0" }

function init(args)
  logins = tonumber(args[1]) or 0
end

function request()
  sent = sent + 1
  if sent % 100 < logins then
    -- Another client and another address each time, as a site's logins are.
    form["X-Forwarded-For"] = string.format("81.%d.%d.%d", sent % 3, sent % 251, sent % 199 + 1)
    local body = "email=person" .. sent .. "%40example.test&password=not-a-secret&csrf=0123456789abcdef"
    return wrk.format("POST", "/login", form, body)
  end
  return wrk.format("GET", "/items/" .. sent % 1000)
end

function done(summary, latency)
  local e = summary.errors
  local failed = e.connect + e.read + e.write + e.timeout + e.status
  io.write(string.format("RESULT %d %d %d %d %d\n", summary.requests, summary.duration, failed,
    latency:percentile(50), latency:percentile(99)))
end
