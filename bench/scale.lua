-- The loads of scale.py, for wrk, by their first argument:
--   get PATH          always the same
--   paths COUNT       so many different paths, one after the other
--   enter PLACE COUNT  logins into COUNT sessions, one after the other from PLACE on, and over again
--   known COUNT       what somebody does who is signed in, whoever of the first COUNT sessions it is
-- The outcome is printed as load.lua prints it.
dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "load.lua")
local form = { ["Content-Type"] = "application/x-www-form-urlencoded", ["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0" }
local sent = 0
local kinds = {}

-- The value of the session cookie with this number: the same in each run, and no two alike.
local function session(number)
  return string.format("%08x%08x%016x", (number * 2654435761) % 4294967296, (number * 40503) % 4294967296, number)
end

function kinds.get(path)
  local whole = wrk.format("GET", path)
  return function() return whole end
end

function kinds.paths(count)
  return function()
    sent = sent + 1
    return wrk.format("GET", "/items/" .. sent % count)
  end
end

function kinds.enter(place, count)
  return function()
    local number = (place + sent) % count + 1
    sent = sent + 1
    return wrk.format("POST", "/enter?session=" .. session(number), form, "login=person" .. number .. "&password=not-a-secret")
  end
end

function kinds.known(count)
  return function()
    form["Cookie"] = "session=" .. session(math.random(1, count))
    return wrk.format("POST", "/account", form, "name=value")
  end
end

function init(args)
  -- Set once here, as `wrk` calls the global.
  request = kinds[args[1]](tonumber(args[2]) or args[2], tonumber(args[3]))
end
